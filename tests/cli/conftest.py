"""What several test files of the command line start from."""

import pytest

from tests.cli.helpers import user_file


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with `mine.py`, a user's own models and data."""
    folder = tmp_path_factory.mktemp("home")
    user_file(folder)
    return folder
