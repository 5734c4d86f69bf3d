"""S10: what a script reaches for besides its data and its artifact: network, programs, secrets (rules.md C, D)."""

import ast
import fnmatch
import re
from collections.abc import Iterator, Mapping

from results.audit.finding import FAIL, PASS, REVIEW, Finding
from results.audit.rules.settings import Settings, evidence, live_nodes, nodes, settings_of, texts
from results.audit.source.program import Piece, Program
from results.audit.source.values import Known
from results.untrusted import plain

NETWORK = (  # dotted names of what fetches
    "requests.get",
    "requests.post",
    "requests.request",
    "requests.Session",
    "urllib.request.urlopen",
    "urllib.request.urlretrieve",
    "urllib.request.Request",
    "http.client.HTTPConnection",
    "http.client.HTTPSConnection",
    "httpx.get",
    "httpx.Client",
    "httpx.stream",
    "aiohttp.ClientSession",
    "socket.create_connection",
    "ftplib.FTP",
    "paramiko.SSHClient",
    "boto3.client",
    "boto3.resource",
    "gdown.download",
    "wget.download",
    "huggingface_hub.hf_hub_download",
    "huggingface_hub.snapshot_download",
    "huggingface_hub.HfApi",
    "datasets.load_dataset",
    "torch.hub.load",
    "torch.hub.load_state_dict_from_url",
    "torch.hub.download_url_to_file",
    "transformers.AutoModel.from_pretrained",
    "transformers.AutoModelForCausalLM.from_pretrained",
    "transformers.AutoTokenizer.from_pretrained",
    "transformers.GPT2LMHeadModel.from_pretrained",
    "kagglehub.dataset_download",
)
FETCHERS = ("curl", "wget", "aria2c", "scp", "rsync", "ssh", "nc", "ftp", "gsutil", "s3cmd", "huggingface-cli", "hf")
STARTERS = (
    "subprocess.run",
    "subprocess.Popen",
    "subprocess.call",
    "subprocess.check_call",
    "subprocess.check_output",
    "subprocess.getoutput",
    "os.system",
    "os.popen",
    "os.execvp",
    "os.execv",
)
SECRET = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIALS?|PRIVATE_KEY)$")
LOGGERS = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # of services that only receive
TRAIN, VAL, SIDECAR = "fineweb_train_000001.bin", "fineweb_val_000000.bin", "fineweb_val_bytes_000000.bin"
CANONICAL_DOCS = 50_000
DOCS = re.compile(r"(?:num|n)?_?val(?:idation)?_?(?:num_?)?docs?(?:_count)?|docs?_val")


def check(program: Program, variables: Mapping[str, str] | None = None) -> list[Finding]:
    settings = settings_of(program, variables)
    found: list[Finding] = []
    for piece, node in live_nodes(program, settings):
        if isinstance(node, ast.Call):
            found += _call(piece, node, settings)
    for piece in program.pieces:
        found += _secrets(piece, settings)
        found += _validation_documents(piece, settings)
    found += _globs(program)
    return found


def _finding(piece: Piece, line: int, verdict: str, authority: str, says: str) -> Finding:
    return Finding("S10", verdict, authority, says, piece.name, line, evidence(piece, line))


def _dotted(node: ast.expr, settings: Settings) -> str:
    """The full name of what is called, where it is a name of the library, under whatever alias."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    root = settings.env.get(node.id) if isinstance(node, ast.Name) else settings.value(node)
    return ".".join([root.name, *reversed(names)]) if isinstance(root, Known) else ""


def _call(piece: Piece, node: ast.Call, settings: Settings) -> Iterator[Finding]:
    name = _dotted(node.func, settings)
    if name in NETWORK or name.endswith(".from_pretrained"):
        says = f"{name} fetches from elsewhere; a submission is self-contained, and its evaluation has no network"
        yield _finding(piece, node.lineno, REVIEW, "[R] C4", says)
    elif name in STARTERS:
        words = _words(node, settings)
        program = words[0].rpartition("/")[2] if words else ""
        if program in FETCHERS or (program == "git" and "clone" in words):
            says = f"{plain(' '.join(words), 100)!r} fetches from elsewhere; a submission is self-contained"
            yield _finding(piece, node.lineno, REVIEW, "[R] C4", says)
        elif program:
            says = (
                f"starts {plain(program, 40)}; programs of the system are accepted where they only compress or compile"
            )
            yield _finding(piece, node.lineno, PASS, "[R] C3; [M] #1855", says)


def _words(node: ast.Call, settings: Settings) -> list[str]:
    """The words of a command that are constant, as far as the first that is not."""
    if not node.args:
        return []
    first = node.args[0]
    if isinstance(first, ast.List | ast.Tuple):
        words = []
        for one in first.elts:
            value = settings.value(one)
            if not isinstance(value, str):
                break
            words.append(value)
        return words
    value = settings.value(first)
    if isinstance(value, str):
        return value.split()
    if isinstance(first, ast.JoinedStr) and first.values and isinstance(first.values[0], ast.Constant):
        return str(first.values[0].value).split()
    return []


def _secrets(piece: Piece, settings: Settings) -> Iterator[Finding]:
    for key, _, where, line in settings.asked:
        if where is piece and SECRET.search(key.upper()):
            verdict = PASS if key.upper() in LOGGERS else REVIEW
            says = f"reads {plain(key, 60)} from the environment; no secret is needed to train or to evaluate"
            yield _finding(piece, line, verdict, "[R] C4", says)


def _validation_documents(piece: Piece, settings: Settings) -> Iterator[Finding]:
    """A number of validation documents other than that of the race, as an option's default or a setting."""
    for node in nodes(piece.tree):
        name, value = "", None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            option = next((one.value for one in node.args if isinstance(one, ast.Constant)), "")
            name = str(option).lstrip("-").replace("-", "_")
            value = next((settings.number(one.value) for one in node.keywords if one.arg == "default"), None)
        elif isinstance(node, ast.keyword) and node.arg:
            name, value = node.arg, settings.number(node.value)
        if DOCS.fullmatch(name.lower()) and value is not None and 0 < value < CANONICAL_DOCS:
            line = getattr(node, "lineno", node.value.lineno if isinstance(node, ast.keyword) else 1)
            says = f"{value:,.0f} documents are kept for validation, of {CANONICAL_DOCS:,}; the rest is trained on"
            yield _finding(piece, line, FAIL, "[M] D4; #2127", says)
    for key, default, where, line in settings.asked:
        number = isinstance(default, int | float) and not isinstance(default, bool) and 0 < default < CANONICAL_DOCS
        if where is piece and DOCS.fullmatch(key.lower()) and number:
            says = f"{key} is {default:,.0f}, and the race keeps {CANONICAL_DOCS:,} documents for validation"
            yield _finding(piece, line, REVIEW, "[M] D4; #2127", says)


def _globs(program: Program) -> Iterator[Finding]:
    """Patterns that take more than they say: validation shards as training data, sidecars as tokens."""
    patterns = [(piece, node, _pattern(text)) for piece, node, text in _with_parts(program) if "*" in text]
    filtered = any(
        isinstance(node, ast.Compare)
        and isinstance(node.left, ast.Constant)
        and isinstance(node.left.value, str)
        and any(word in node.left.value for word in ("byte", "val", "train"))
        for piece in program.pieces
        for node in nodes(piece.tree)
    )
    sidecars = any("val_bytes" in text or "_bytes_" in text for _, _, text in texts(program))
    for piece, node, pattern in patterns:
        if not pattern.startswith("fineweb"):
            continue
        both = fnmatch.fnmatchcase(TRAIN, pattern) and fnmatch.fnmatchcase(VAL, pattern)
        if both and not filtered:
            says = f"the pattern {plain(pattern, 60)!r} takes training and validation shards alike"
            yield _finding(piece, node.lineno, FAIL, "[R] D1", says)
        elif sidecars and not filtered and fnmatch.fnmatchcase(VAL, pattern) and fnmatch.fnmatchcase(SIDECAR, pattern):
            says = f"the pattern {plain(pattern, 60)!r} takes the sidecars of bytes for tokens too"
            yield _finding(piece, node.lineno, REVIEW, "[R] D2; [P] D3", says)


def _with_parts(program: Program) -> Iterator[tuple[Piece, ast.expr, str]]:
    """Constant texts, and those of f-strings with * for what is not constant."""
    inside: set[int] = set()
    for piece in program.pieces:
        for node in nodes(piece.tree):
            if isinstance(node, ast.JoinedStr):
                inside |= {id(one) for one in node.values}
                parts = [str(one.value) if isinstance(one, ast.Constant) else "\0" for one in node.values]
                yield piece, node, "".join(parts)
    for piece, constant, text in texts(program):
        if id(constant) not in inside:
            yield piece, constant, text


def _pattern(text: str) -> str:
    """The last part of a path pattern; what an f-string fills in is taken for nothing in particular."""
    return text.rpartition("/")[2].replace("\0", "\1")
