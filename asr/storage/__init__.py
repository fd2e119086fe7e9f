"""Bytes at an address: a file, a part of one, or either behind an fsspec address such as ``s3://``.

A part is written ``FILE:offset:length`` in bytes, as fairseq's manifests of speech name what lies in an
uncompressed container; so a recording in a tar file is named as any other. Remote files are copied whole,
read in sequence, into a folder of this machine that all its processes share, and the ones used longest ago
make room for others. So what is read again and again costs the network once, and no reader knows the
difference.
"""

from asr.storage.addresses import (
    Part,
    expand,
    file_of,
    is_remote,
    join,
    list_folder,
    natural_order,
    parse_part,
    version,
)
from asr.storage.copies import cache_folder, local_copy, locked
from asr.storage.reading import prefetch, read_part

__all__ = [
    "Part",
    "cache_folder",
    "expand",
    "file_of",
    "is_remote",
    "join",
    "list_folder",
    "local_copy",
    "locked",
    "natural_order",
    "parse_part",
    "prefetch",
    "read_part",
    "version",
]
