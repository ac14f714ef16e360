"""Pages that a member's own machine serves to its own browser: templates, style, and what keeps others out."""
