from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.installation import installation

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A whole installation for one module: its Redis."""
    with installation(tmp_path_factory.mktemp("installation")) as url:
        yield url
