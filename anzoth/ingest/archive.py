"""How are the members of an untrusted zip archive, and the XML in them, read?

Names of members are only ever keys of a dictionary: nothing is written anywhere. What a member
says about its size is checked against what comes out of it. XML with a document type is refused,
because office formats have none and entity bombs need one.

Does not know: office formats.
"""

from __future__ import annotations

import io
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree  # type: ignore[attr-defined]  # compiled, untyped

from anzoth.ingest.limits import Limits, UnreadableFile

_RATIO_MATTERS_BYTES = 1 << 20
_RELATIONSHIP = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What office formats may use; the others bring decoders and errors of their own."""
# For a damaged archive zipfile promises the first of these and raises all of them.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(RuntimeError, ValueError, LookupError, OverflowError),
)


@dataclass(slots=True, frozen=True)
class Relationship:
    """Where a part refers to. `target` is the name of a member."""

    kind: str
    """The last word of its type, for example `slide`."""
    target: str


class Archive:
    """The members of a zip archive in memory. Raises UnreadableFile for whatever is wrong."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._limits = limits
        self._num_inflated_bytes = 0
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _BROKEN:
            raise _damaged() from None
        members = self._zip.infolist()
        if len(members) > limits.max_members:
            raise UnreadableFile(
                "invalid_file", f"The file has more than {limits.max_members:,} parts inside."
            )
        self._members = {member.filename: member for member in members}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._members)

    def read(self, name: str) -> bytes:
        """A member's content. Raises UnreadableFile when it is missing, too large or damaged."""
        member = self._members.get(name)
        if member is None or member.compress_type not in _METHODS:
            raise _damaged()
        if member.flag_bits & _ENCRYPTED:
            raise UnreadableFile("invalid_file", "The file is encrypted. Remove the password.")
        allowed = self._allowed_bytes(member)
        try:
            with self._zip.open(member) as stream:
                content = stream.read(allowed + 1)
        except _BROKEN:
            raise _damaged() from None
        self._num_inflated_bytes += len(content)
        if len(content) > allowed:
            raise UnreadableFile(
                "invalid_file", "The file unpacks to far more than it is: it was not read."
            )
        return content

    def _allowed_bytes(self, member: zipfile.ZipInfo) -> int:
        limits = self._limits
        by_ratio = max(_RATIO_MATTERS_BYTES, member.compress_size * limits.max_ratio)
        left = limits.max_inflated_bytes - self._num_inflated_bytes
        return max(min(by_ratio, limits.max_part_bytes, left), 0)

    def xml(self, name: str) -> etree._Element:
        """The root of a member that is XML."""
        return parse_xml(self.read(name))

    def xml_elements(self, name: str, tag: str) -> Iterator[etree._Element]:
        """Elements of one name, one at a time: each is emptied when the next is asked for."""
        stream = io.BytesIO(self.read(name))
        try:
            for _, element in etree.iterparse(stream, tag=tag, **_XML):
                _refuse_doctype(element)
                yield element
                element.clear()
                while (previous := element.getprevious()) is not None:
                    parent = previous.getparent()
                    assert parent is not None
                    parent.remove(previous)
        except (etree.XMLSyntaxError, ValueError):
            raise _damaged() from None

    def relationships(self, name: str) -> dict[str, Relationship]:
        """What a part refers to inside the archive, by id; `""` stands for the archive itself."""
        folder, base = posixpath.split(name)
        path = posixpath.join(folder, "_rels", f"{base}.rels")
        found: dict[str, Relationship] = {}
        if path not in self._members:
            return found
        for element in self.xml(path).iter(_RELATIONSHIP):
            if element.get("TargetMode") == "External":
                continue
            target = posixpath.normpath(posixpath.join("/", folder, element.get("Target", "")))
            kind = element.get("Type", "").rpartition("/")[2]
            found[element.get("Id", "")] = Relationship(kind, target.lstrip("/"))
        return found

    def main_part(self) -> str:
        """The member that is the document itself."""
        for relationship in self.relationships("").values():
            if relationship.kind == "officeDocument":
                return relationship.target
        raise _damaged()

    def title(self) -> str | None:
        """What the properties of an office document say."""
        name = "docProps/core.xml"
        if name not in self._members:
            return None
        return self.xml(name).findtext(".//{http://purl.org/dc/elements/1.1/}title")


_XML = {
    "resolve_entities": False,
    "load_dtd": False,
    "no_network": True,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}


def parse_xml(content: bytes) -> etree._Element:
    """The root element. Raises UnreadableFile when the XML is broken or declares a type."""
    try:
        root = etree.fromstring(content, etree.XMLParser(**_XML))
    except (etree.XMLSyntaxError, ValueError):
        raise _damaged() from None
    _refuse_doctype(root)
    return root


def _refuse_doctype(element: etree._Element) -> None:
    if element.getroottree().docinfo.internalDTD is not None:
        raise UnreadableFile(
            "invalid_file", "The XML in the file declares a document type: it was not read."
        )


def _damaged() -> UnreadableFile:
    return UnreadableFile("invalid_file", "The file is damaged: it could not be read to its end.")
