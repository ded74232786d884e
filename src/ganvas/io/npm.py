"""Downloads of packages from the npm registry: through npm where it is installed, else https."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from ganvas.errors import GanvasError

REGISTRY = "https://registry.npmjs.org"
"""The registry where neither npm nor $NPM_CONFIG_REGISTRY names another one."""
TIMEOUT_SECONDS = 60
"""How long the registry may take to answer."""
MAX_PACKAGE_BYTES = 256 << 20
"""Larger tarballs are refused."""
SPEC_PATTERN = re.compile(r"((?:@[a-z0-9._-]+/)?([a-z0-9._-]+))@([0-9A-Za-z.+-]+)")


def download(spec: str, folder: Path) -> Path:
    """Download the tarball of ``spec`` (``@scope/name@1.2.3``) into ``folder``; nothing in it is run. Check its hash.

    npm comes first: it knows the user's registry, certificates and login. Raises GanvasError with the reason where
    it, or the registry, fails.
    """
    match = SPEC_PATTERN.fullmatch(spec)
    if match is None:
        raise GanvasError(f"{spec!r} isn't an npm package: write it as NAME@VERSION.")
    if npm := shutil.which("npm"):
        return _run_pack(npm, spec, folder)
    name, base, version = match.groups()
    registry = (os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY).rstrip("/")
    return _fetch(f"{registry}/{name}/-/{base}-{version}.tgz", folder / f"{base}-{version}.tgz")


def _run_pack(npm: str, spec: str, folder: Path) -> Path:
    command = [npm, "pack", spec, "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=folder)
    tarballs = sorted(folder.glob("*.tgz"))
    if result.returncode or len(tarballs) != 1:
        raise GanvasError(_summarise(result.stderr + result.stdout))
    return tarballs[0]


def _summarise(message: str) -> str:
    """Summarise an error message of npm in a few words."""
    if re.search(r"ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|ECONNRESET", message):
        return "there is no network, or npm's registry doesn't answer"
    if "E404" in message or "ETARGET" in message:
        return "npm's registry has no such package"
    if "ENOSPC" in message:
        return "the disk is full"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "npm failed without a message"


def _fetch(url: str, target: Path) -> Path:
    if not url.startswith(("https://", "http://")):
        raise GanvasError(f"npm's registry is a web address, not {url!r}")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            content = answer.read(MAX_PACKAGE_BYTES + 1)
        if len(content) > MAX_PACKAGE_BYTES:
            raise GanvasError(f"it is larger than {MAX_PACKAGE_BYTES >> 20} MiB")
        target.write_bytes(content)
    except urllib.error.HTTPError as error:
        raise GanvasError("npm's registry has no such package" if error.code == 404 else f"{error}") from None
    except urllib.error.URLError:
        raise GanvasError("there is no network, or npm's registry doesn't answer") from None
    except OSError as error:
        raise GanvasError(error.strerror or "npm's registry stopped answering") from None
    return target
