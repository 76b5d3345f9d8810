"""Download the official GLUE files, one folder per task, and check that they are complete.

    python scripts/download_glue.py --data_dir glue
    python scripts/download_glue.py --data_dir glue --tasks RTE MRPC --mrpc_dir ~/Downloads
    python scripts/download_glue.py --data_dir glue --source hub

--source hub takes the data set nyu-mll/glue of the Hugging Face hub instead, and writes it as official files; it needs pyarrow.
The row count of each file is compared with the official one. A correct file is not downloaded again; a wrong file is
reported, and replaced only with --overwrite. The exit status is 2 if a file is missing or wrong at the end.
"""

import fsd.cli.early_signals  # noqa: F401

import http.client
import importlib.util
import lzma
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from fsd.cli.parser import Parser
from fsd.glue.files import read_file
from fsd.glue.tasks import TASKS, find_task
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import put_in_place, read_json, write_json
from fsd.system.logs import progress_bar

OFFICIAL_URL = "https://dl.fbaipublicfiles.com/glue/data"
OFFICIAL_MRPC_URL = "https://dl.fbaipublicfiles.com/senteval/senteval_data"  # GLUE's server lacks MRPC's texts
ARCHIVES = {"QQP": "QQP-clean.zip", "QNLI": "QNLIv2.zip"}  # the other archives have the name of their task
MRPC_DEV_IDS = ("mrpc_dev_ids.tsv", "dev_ids.tsv")  # the name on the server, and the name in older download scripts
NAMES = [task.name for task in TASKS] + ["AX"]
HUB_RECORD = "hub.json"  # file name → repository, revision and commit, for the files that are from the hub
TIMEOUT = 60  # seconds without a byte


def parse_arguments(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("--data_dir", required=True, type=Path, help="GLUE root to write to; created if missing")
    parser.add_argument("--tasks", nargs="+", default=NAMES, metavar="TASK",
                        help=f"tasks to download, from {' '.join(NAMES)} (AX: diagnostic set for MNLI models)")
    parser.add_argument("--source", choices=["official", "hub"], default="official",
                        help="hub: nyu-mll/glue on the Hugging Face hub, for when the official address fails; needs pyarrow")
    parser.add_argument("--revision", help="with --source hub: branch, tag or commit (default: main); hub.json beside the files "
                                           "tells the commit")
    parser.add_argument("--base_url", default=OFFICIAL_URL,
                        help="a mirror with the same file names, including MRPC's msr_paraphrase_{train,test}.txt")
    parser.add_argument("--mrpc_dir", type=Path,
                        help="folder with msr_paraphrase_train.txt and msr_paraphrase_test.txt, if their server is "
                             "down; the list of dev ids (mrpc_dev_ids.tsv) is downloaded unless it is there too")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files, correct or not")
    arguments = parser.parse_args(argv)
    arguments.tasks = list(dict.fromkeys("AX" if n.upper() == "AX" else find_task(n).name for n in arguments.tasks))
    arguments.base_url = arguments.base_url.rstrip("/")
    if not arguments.base_url.startswith(("http://", "https://")):
        raise InputError(f"--base_url {arguments.base_url} is not an http:// or https:// address")
    if arguments.mrpc_dir and not arguments.mrpc_dir.is_dir():
        raise InputError(f"--mrpc_dir {arguments.mrpc_dir} is not a folder")
    if arguments.mrpc_dir and "MRPC" not in arguments.tasks:
        raise InputError("--mrpc_dir is for MRPC, which --tasks does not name; leave it out")
    from_hub = arguments.source == "hub"
    if from_hub and (arguments.mrpc_dir or arguments.base_url != OFFICIAL_URL):
        raise InputError("--base_url and --mrpc_dir belong to the official source; leave them out with --source hub")
    if arguments.revision and not from_hub:
        raise InputError("--revision needs --source hub; the official files have no revisions")
    if from_hub and importlib.util.find_spec("pyarrow") is None:
        raise InputError("--source hub needs pyarrow, to read parquet files; install it with: pip install pyarrow")
    return arguments


def files_of(name):
    """[(task, split, path below the GLUE root)] of the files of the task ``name``."""
    if name == "AX":
        return [(find_task("MNLI"), "ax", "AX/AX.tsv")]
    task = find_task(name)
    return [(task, split, f"{name}/{file}") for split, file in task.files.items() if split != "ax"]


def check_rows(task, split, path):
    """InputError unless the file can be read and has as many rows as the official one."""
    found, official = len(read_file(task, split, path).texts_a), task.rows[split]
    if found != official:
        raise InputError(f"{path}: {found} rows, but the official file has {official}")


def download(url, path):
    """Download ``url`` to ``path``, which appears only when it is complete."""
    part = path.with_name(path.name + ".part")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(part, "wb") as file:
            size = int(response.headers.get("Content-Length") or 0)
            with progress_bar(total=size or None, desc=path.name, unit="B", unit_scale=True, delay=1) as bar:
                while block := response.read(1 << 16):
                    file.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        raise InputError(f"{url}: the server answers {error.code} {error.reason}; take the files from --source hub") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{url}: {reason}; check the network, or take the files from --source hub") from error
    if size and part.stat().st_size != size:
        raise InputError(f"{url}: the connection broke after {part.stat().st_size} of {size} bytes; run again")
    part.rename(path)


def unpack(archive, files, stage):
    """Unpack only ``files`` (paths such as RTE/train.tsv) from a zip archive into the folder ``stage``."""
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.namelist():
                inside = PurePosixPath(member.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts or ":" in member:
                    raise InputError(f"{archive.name}: {member!r} would lie outside its folder; do not trust its source")
            missing = sorted(set(files) - set(packed.namelist()))
            if missing:
                raise InputError(f"{archive.name}: it lacks {', '.join(missing)}")
            for file in files:
                (stage / file).parent.mkdir(exist_ok=True)
                with packed.open(file) as source, open(stage / file, "wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f"{archive.name}: not a whole zip archive ({error}); run again") from error


def assemble_mrpc(arguments, stage):
    """Make MRPC's train, dev and test files from the original corpus and GLUE's list of dev pairs."""
    base_url = OFFICIAL_MRPC_URL if arguments.base_url == OFFICIAL_URL else arguments.base_url
    sources = {}
    for name in ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt"):
        sources[name] = (arguments.mrpc_dir or stage) / name
        if not arguments.mrpc_dir:
            download(f"{base_url}/{name}", sources[name])
    local = [arguments.mrpc_dir / name for name in MRPC_DEV_IDS] if arguments.mrpc_dir else []
    ids = next((path for path in local if path.is_file()), stage / MRPC_DEV_IDS[0])
    if ids.parent == stage:
        download(f"{arguments.base_url}/{MRPC_DEV_IDS[0]}", ids)
    dev_pairs = {tuple(line.split("\t")[:2]) for line in read_lines(ids)}
    header, *rows = read_lines(sources["msr_paraphrase_train.txt"])
    in_dev = [tuple(row.split("\t")[1:3]) in dev_pairs for row in rows]
    test_header, *test_rows = read_lines(sources["msr_paraphrase_test.txt"])
    # GLUE's test file has the row number where the original file has the label.
    test_rows = ["\t".join([str(at), *row.split("\t")[1:]]) for at, row in enumerate(test_rows)]
    (stage / "MRPC").mkdir()
    write_lines(stage / "MRPC/train.tsv", [header] + [row for row, dev in zip(rows, in_dev, strict=True) if not dev])
    write_lines(stage / "MRPC/dev.tsv", [header] + [row for row, dev in zip(rows, in_dev, strict=True) if dev])
    write_lines(stage / "MRPC/test.tsv", ["index\t" + test_header.partition("\t")[2]] + test_rows)


def read_lines(path):
    try:
        return path.read_text(encoding="utf-8-sig").strip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read it ({error})") from error


def write_lines(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def convert_from_hub(files, revision, stage):
    """Download the hub's files and write them below ``stage`` as official ones; returns what hub.json tells of them."""
    from fsd.glue.hub_files import REPOSITORY, download_parquet, official_text

    commit = revision
    for task, split, file in files:
        path, commit = download_parquet(task, split, commit)  # the others are of the first one's commit
        (stage / file).parent.mkdir(exist_ok=True)
        (stage / file).write_text(official_text(task, split, path), encoding="utf-8", newline="")
    return {"repository": REPOSITORY, "revision": revision, "commit": commit}


def known_sources(folder):
    """What hub.json tells: file name → where it is from."""
    path = folder / HUB_RECORD
    record = read_json(path) if path.exists() else {}
    if not isinstance(record, dict):
        raise InputError(f"{path}: it does not tell where files are from; move it away")
    return record


def record_source(folder, known, files, source):
    """Write into hub.json where these files are from; ``source`` is None for the official address, which has no entry.

    ``known``: what hub.json has told so far.
    """
    path = folder / HUB_RECORD
    kept = {name: of_file for name, of_file in known.items() if name not in files}
    if source:
        write_json(path, kept | dict.fromkeys(files, source))
    elif kept:
        write_json(path, kept)
    else:
        path.unlink(missing_ok=True)


def fetch(name, arguments):
    """Put the files of ``name`` into the GLUE root, or raise InputError and change nothing there."""
    files = files_of(name)
    if not arguments.overwrite:
        for task, split, file in files:
            if (arguments.data_dir / file).exists():
                check_present(task, split, arguments.data_dir / file)
        files = [entry for entry in files if not (arguments.data_dir / entry[2]).exists()]
        if not files:
            return "complete, nothing fetched"
    known = known_sources(arguments.data_dir / name)
    with tempfile.TemporaryDirectory(dir=arguments.data_dir, prefix=f".{name}-") as folder:
        stage, source = Path(folder), None
        if arguments.source == "hub":
            source = convert_from_hub(files, arguments.revision or "main", stage)
        elif name == "MRPC":
            assemble_mrpc(arguments, stage)
        elif name == "AX":
            (stage / "AX").mkdir()
            download(f"{arguments.base_url}/AX.tsv", stage / "AX/AX.tsv")
        else:
            archive = stage / ARCHIVES.get(name, f"{name}.zip")
            download(f"{arguments.base_url}/{archive.name}", archive)
            unpack(archive, [file for _, _, file in files], stage)
        for task, split, file in files:
            try:
                check_rows(task, split, stage / file)
            except InputError as error:
                reason = str(error).replace(f"{stage}/", "")
                raise InputError(f"what was fetched is not the official data: {reason}") from error
        (arguments.data_dir / name).mkdir(exist_ok=True)
        for _, _, file in files:
            put_in_place(stage / file, arguments.data_dir / file)
        record_source(arguments.data_dir / name, known, [PurePosixPath(file).name for _, _, file in files], source)
    return ", ".join(f"{PurePosixPath(file).name} {task.rows[split]}" for task, split, file in files)


def check_present(task, split, path):
    try:
        check_rows(task, split, path)
    except InputError as error:
        raise InputError(f"{error}; --overwrite downloads it again") from error


def main(argv=None):
    arguments = parse_arguments(argv)
    try:
        arguments.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--data_dir {arguments.data_dir}: cannot make this folder ({error.strerror})") from error
    failed = []
    for name in arguments.tasks:
        try:
            print(f"{name}: {fetch(name, arguments)}", flush=True)
        except (InputError, OSError) as error:
            failed.append(name)
            print(f"{name}: FAILED: {error}", flush=True)
    if failed:
        raise InputError(f"{len(failed)} of {len(arguments.tasks)} not fetched: {', '.join(failed)} (reasons above)")


if __name__ == "__main__":
    exit_on_input_error(main)
