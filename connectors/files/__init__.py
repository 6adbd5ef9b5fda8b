"""Event files: `find_files` says which there are, `FileSource` reads them."""

from connectors.files.config import FilesConfig
from connectors.files.extent import Extent, extent_of
from connectors.files.find import FilePartition, find_files
from connectors.files.source import FileSource

__all__ = ["Extent", "FilePartition", "FileSource", "FilesConfig", "extent_of", "find_files"]
