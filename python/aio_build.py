"""Builds the wheel with nothing but Python and cargo: the package and the C library in one archive.

Called by pip (PEP 517). AIO_BUILT names a folder with the libraries, if they are built already.
"""
import base64
import hashlib
import os
import re
import subprocess
import sysconfig
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "aio_runtime"
LIBRARIES = ["libaio_capi.so", "libaio_capi.dylib", "aio_capi.dll"]


def version():
    text = (HERE.parent / "Cargo.toml").read_text()
    return re.search(r'^version = "(.*)"', text, re.MULTILINE).group(1)


def library():
    """The C library, built if need be."""
    folder = os.environ.get("AIO_BUILT")
    if not folder:
        subprocess.run(["cargo", "build", "--release", "-p", "aio-capi"], cwd=HERE.parent, check=True)
        folder = Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parent / "target") / "release"
    found = [Path(folder) / name for name in LIBRARIES if (Path(folder) / name).is_file()]
    if not found:
        raise SystemExit(f"{folder} has none of {', '.join(LIBRARIES)}")
    return found[0]


def metadata():
    return f"Metadata-Version: 2.1\nName: aio-runtime\nVersion: {version()}\nRequires-Python: >=3.9\n"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    tag = f"py3-none-{platform}"
    file = f"{NAME}-{version()}-{tag}.whl"
    info = f"{NAME}-{version()}.dist-info"
    lib = library()
    files = {f"aio/{p.name}": p.read_bytes() for p in sorted((HERE / "aio").iterdir()) if p.suffix in (".py", ".typed")}
    files[f"aio/{lib.name}"] = lib.read_bytes()
    files[f"{info}/METADATA"] = metadata().encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: aio\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    record = ""
    with zipfile.ZipFile(Path(wheel_directory) / file, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(data)}\n"
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return file


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError("the sources are the repository's")
