"""What every side agrees on: report, sealing, policy, roster, areas, log. Functions over values, no sockets."""
