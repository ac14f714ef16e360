"""A network's first two versions, on paper."""

from __future__ import annotations

import pytest

from kengele_schemas import drafts
from kengele_schemas.drafts import Draft
from kengele_testing.trust import NOW, Files, Paper, raised


@pytest.fixture(scope="module")
def paper() -> Paper:
    return Paper()


@pytest.fixture(scope="module")
def draft(paper: Paper) -> Draft:
    return paper.drafted()


@pytest.fixture(scope="module")
def first(paper: Paper, draft: Draft) -> Files:
    return paper.accept(paper.signed(draft))


@pytest.fixture(scope="module")
def second(paper: Paper, first: Files) -> Files:
    return paper.accept(paper.signed(drafts.edit(first, raised(first), NOW)), first)
