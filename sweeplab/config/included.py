"""A user's own folder of lm-eval's YAML tasks: their names, and the functions that they would run, read as text."""

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from sweeplab.runtime.errors import ConfigError, describe_error, refuse
from sweeplab.runtime.paths import expand_home

_IGNORED: Final = ("__pycache__", ".ipynb_checkpoints")  # as in lm-eval's index
_REMEDY: Final = "read it; then add evaluation.include_code=true to the command line, or drop the task"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TaskLoader(_Loader):  # type: ignore[misc]
    """YAML as lm-eval reads it, but for functions: they stay names, which `functions` has with their lines."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.functions: list[tuple[int, str]] = []

    def keep_name(self, node: Any) -> str:
        name = str(self.construct_scalar(node))
        self.functions.append((node.start_mark.line + 1, name))
        return name


_TaskLoader.add_constructor("!function", _TaskLoader.keep_name)


class _Function(NamedTuple):
    """What stands behind `!function`, and where."""

    path: Path
    line: int
    name: str


class _Read(NamedTuple):
    """A file with the keys of those that it includes, as lm-eval merges them."""

    values: dict[str, Any]
    files: tuple[Path, ...]  # it, and those that it includes
    functions: tuple[_Function, ...]  # of files that are not lm-eval's

    def list_names(self) -> list[str]:
        """The task or group that it defines, and its tags."""
        tags = self.values.get("tag") or []
        names = [self.values.get("group"), self.values.get("task"), *(tags if isinstance(tags, list) else [tags])]
        return [name for name in names if isinstance(name, str)]

    def list_members(self) -> Iterator[str]:
        """Names in the list of a group, however deep."""
        waiting, seen = [self.values.get("task")], set[int]()  # seen: a list in YAML may stand within itself
        while waiting:
            part = waiting.pop()
            if isinstance(part, list) and id(part) not in seen:
                seen.add(id(part))
                waiting += part
            elif isinstance(part, dict):
                waiting += [part.get("task"), part.get("group")]
            elif isinstance(part, str):
                yield part


class _Folder(NamedTuple):
    """What a folder defines."""

    files: tuple[_Read, ...]
    unread: tuple[str, ...]  # files that cannot be read, each with the reason


@cache
def _find_home() -> Path | None:
    """lm-eval's own folder of tasks, whose functions are a part of lm-eval; None where it is not installed."""
    package = find_spec("lm_eval")
    return None if package is None or package.origin is None else (Path(package.origin).parent / "tasks").resolve()


def _is_own(path: Path) -> bool:
    """True for a file that came with lm-eval."""
    home = _find_home()
    return home is not None and path.is_relative_to(home)


def list_files(folder: str) -> list[Path]:
    """The YAML files of a folder, in lm-eval's order."""
    found = expand_home(folder).glob("**/*.yaml")
    return sorted((path for path in found if not set(_IGNORED) & set(path.parts)), key=Path.as_posix)


def read_task_file(path: Path, around: tuple[Path, ...] = ()) -> _Read:
    """A file with what it includes. Raises `ValueError`, `OSError` or `yaml.YAMLError`, as lm-eval does."""
    path = path.expanduser().resolve()
    if path in around:
        raise ValueError(f"{path} includes itself")
    loader = _TaskLoader(path.read_bytes())
    try:
        values = loader.get_single_data()
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise ValueError("it is no mapping of keys")
    functions = () if _is_own(path) else tuple(_Function(path, *one) for one in loader.functions)
    includes = values.pop("include", None) or []
    merged: dict[str, Any] = {}
    files: tuple[Path, ...] = (path,)
    for one in includes if isinstance(includes, list) else [includes]:
        inner = read_task_file(path.parent / str(one), (*around, path))
        merged |= {name: value for name, value in inner.values.items() if name != "task_list"}
        files, functions = files + inner.files, functions + inner.functions
    return _Read(merged | values, files, functions)


def _read_folder(folder: str) -> _Folder:
    files = list_files(folder)
    return _read_files(tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files))


@cache
def _read_files(stamped: tuple[tuple[Path, int, int], ...]) -> _Folder:
    """The files, each given with its time and size, so that a changed one is read again."""
    found, unread = [], []
    for path, _, _ in stamped:
        try:
            found.append(read_task_file(path))
        except (ValueError, OSError, yaml.YAMLError, RecursionError) as error:
            unread.append(f"{path}: {describe_error(error)}")
    return _Folder(tuple(found), tuple(unread))


def list_names(folder: str) -> list[str]:
    """Tasks, groups and tags that the folder's files define, and members of its groups."""
    files = _read_folder(folder).files
    return sorted({name for one in files for name in (*one.list_names(), *one.list_members())})


def list_unread(folder: str) -> tuple[str, ...]:
    """Files that lm-eval would pass over, each with what is wrong in it."""
    return _read_folder(folder).unread


def _choose_files(folder: str, names: Iterable[str]) -> tuple[list[_Read], list[str]]:
    """The folder's files that `names` lead to, through groups and tags, and names that none of its files defines."""
    files = _read_folder(folder).files
    waiting, seen, chosen, missing = list(names), set[str](), [], []
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        having = [one for one in files if name in one.list_names()]
        chosen += having
        missing += [] if having else [name]
        waiting += [member for one in having for member in one.list_members()]
    return chosen, missing


def list_missing(folder: str, names: Iterable[str]) -> list[str]:
    """Of `names`, and of all that their groups consist of, what no file of the folder defines."""
    return _choose_files(folder, names)[1]


def list_read_files(folder: str) -> list[Path]:
    """All files that tasks of the folder are made of: YAML, what that includes, its functions, and local data."""
    files = _read_folder(folder).files
    paths = {path for one in files for path in one.files}
    modules = [path.parent / f"{name.rpartition('.')[0].replace('.', '/')}.py" for path, _, name in _list_all(files)]
    paths |= {path for path in modules if path.is_file()}
    for one in files:
        arguments = one.values.get("dataset_kwargs")
        named = arguments.get("data_files") if isinstance(arguments, dict) else None
        by_split = named.values() if isinstance(named, dict) else [named]
        for texts in by_split:
            found = [Path(text) for text in (texts if isinstance(texts, list) else [texts]) if isinstance(text, str)]
            paths |= {path.resolve() for path in found if path.is_file()}
    return sorted(paths)


def _list_all(files: Iterable[_Read]) -> list[_Function]:
    return [function for one in files for function in one.functions]


def check_folder(folder: str) -> None:
    """Raises `ConfigError` for what is no folder, and for one without YAML."""
    if not expand_home(folder).is_dir():
        raise refuse("evaluation.include_path", "must be a folder", folder, "check the path, or leave it null")
    if not list_files(folder):
        rule = "must hold lm-eval's tasks, one a file that ends in .yaml"
        raise refuse("evaluation.include_path", rule, folder, "check the path, or leave it null")


def check_code(folder: str, names: Iterable[str]) -> None:
    """Raises `ConfigError` where a file of the folder that one of `names` leads to would run Python code."""
    for one in _choose_files(folder, names)[0]:
        refuse_functions(one)


def refuse_functions(one: _Read) -> None:
    """Raises `ConfigError` where a file that is not lm-eval's names a Python function."""
    for path, line, name in one.functions:
        raise ConfigError(
            f"evaluation.include_path: {path}, line {line}, names the Python function {name}, which would run here "
            f"with all your rights; {_REMEDY}"
        )
