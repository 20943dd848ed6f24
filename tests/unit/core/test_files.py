from pathlib import Path

import pytest

from impasto.core.files import FileCache


def test_a_file_is_read_again_when_it_has_changed(tmp_path):
    path, reads = tmp_path / "a.txt", []

    def read(path: Path) -> str:
        reads.append(path)
        return path.read_text()

    cache = FileCache(read)
    with pytest.raises(FileNotFoundError):
        cache(path)
    path.write_text("one")
    assert [cache(path), cache(path)] == ["one", "one"] and len(reads) == 1
    path.write_text("three")
    assert cache(path) == "three" and len(reads) == 2
    path.unlink()
    with pytest.raises(FileNotFoundError):
        cache(path)
