"""Event files: `find_files` says which there are, `FileSource` reads them."""

from connectors.files.config import FilesConfig
from connectors.files.find import find_files
from connectors.files.source import FileSource

__all__ = ["FileSource", "FilesConfig", "find_files"]
