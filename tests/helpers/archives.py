"""Zip and tar archives in memory, good and bad. Use it as `from archives import zipped, tarred`."""

from __future__ import annotations

import io
import tarfile
import zipfile


def zipped(members: dict[str, bytes], mode: int = 0) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, body)
    return packed.getvalue()


def tarred(members: dict[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(body), kind, link
            archive.addfile(info, io.BytesIO(body))
    return packed.getvalue()
