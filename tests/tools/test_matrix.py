from tools.matrix import select_versions

INDEX = """
releases:
  v1.30.3: {}
  v1.31.0: {}
  v1.31.10: {}
  v1.31.9: {}
  v1.33.0: {}
  v1.34.0-rc.1: {}
"""


def test_the_newest_patch_of_each_minor_version_is_taken() -> None:
    assert select_versions(INDEX, least=(1, 31)) == ["1.31.10", "1.33.0"]
