"""The rules of the house, checked by reading the sources. The layers themselves are import-linter's (pyproject.toml)."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration_pipelines.settings import VARIABLES
from integration_pipelines.store import sync_tables, tables
from integration_pipelines.store.columns import metadata

ROOT = Path(__file__).parents[1]
PACKAGES = ("connector_resources", "integration_pipelines", "mappings")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}
assert sync_tables, tables  # they describe themselves into metadata

# Where a framework may be imported. A name that ends with / is a folder.
FRAMEWORKS = {
    "dagster": ("integration_pipelines/orchestration/", "definitions.py", "demo.py", "server.py", "cli_server.py"),
    "fastapi": ("connector_resources/sandbox/", "integration_pipelines/api/", "integration_pipelines/console/", "server.py"),
    "starlette": ("connector_resources/sandbox/", "integration_pipelines/api/", "integration_pipelines/console/", "server.py"),
    "uvicorn": ("connector_resources/sandbox/", "integration_pipelines/api/", "integration_pipelines/console/", "server.py"),
    "connector_resources.sandbox": (
        "connector_resources/sandbox/",
        "integration_pipelines/cli.py",
        "integration_pipelines/demo.py",
    ),
}
# Dagster's processes and the demo's children find their way by what is put there; the first keeps a library from dropping
# the offsets of instants. Nothing of these looks anything up.
WRITES_THE_ENVIRONMENT = {
    "connector_resources/__init__.py",
    "integration_pipelines/demo.py",
    "integration_pipelines/orchestration/launch.py",
}
VENDOR = re.compile(r"\b(salesforce|sap|quickbooks)\b", re.IGNORECASE)
VENDOR_EXAMPLES = {  # lines of a command's help, which says what to type
    "integration_pipelines/cli.py": {
        "Sync a Salesforce sandbox into the reference ERP, three times, and check every number.",
        'type=click.Choice(["salesforce", "rest", "soap", "graphql"]),',
        'default="salesforce",',
        'if kind == "salesforce":',
    },
    "integration_pipelines/cli_connector.py": {
        'integration connector create "Our org" --type salesforce --url https://acme.my.salesforce.com '
        "--credentials secret.json",
        "integration mapping store mappings/salesforce/account-customer.yaml",
    },
}
FRAMEWORKS_WORDS = {"StagingIOManager"}  # an IOManager is what Dagster calls it
NOT_USED = {"manager", "helper", "helpers", "util", "utils", "processor", "service", "handler"}
CONNECTS = re.compile(r"^(create_engine|engine|connect|load|load_\w+|open_\w+|Database|Embedded|Client|Session|sessionmaker)$")
CONNECTS_NOT = {  # (file, call), with the reason beside it
    (
        "integration_pipelines/orchestration/preload.py",
        "load_catalogue",
    ),  # to load is what it is imported for, by the forkserver
}
MUTATES = {"append", "extend", "add", "update", "setdefault", "pop", "popitem", "clear", "remove", "discard", "insert"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def allowed(path: Path, places: tuple[str, ...]) -> bool:
    here = name(path)
    return any(
        here.startswith(place) if place.endswith("/") else here.endswith(f"/{place}") or here == place for place in places
    )


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when the module is imported: everything but the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_import(child)


def test_there_are_sources() -> None:
    assert len(SOURCES) > 80


def test_no_file_is_longer_than_350_lines() -> None:
    every = [*SOURCES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    assert {str(p.relative_to(ROOT)): lines for p in every if (lines := len(p.read_text().splitlines())) > 350} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = {
        f"{name(path)}:{f.name}": length
        for path, tree in TREES.items()
        for f in functions(tree)
        if (length := (f.end_lineno or 0) - f.lineno + 1) > 60
    }
    assert long == {}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_is_imported_only_where_it_belongs(framework: str) -> None:
    found = {
        f"{name(path)}:{line}"
        for path, tree in TREES.items()
        for line, module in imported(tree)
        if (module == framework or module.startswith((f"{framework}.", f"{framework}_")))
        and not allowed(path, FRAMEWORKS[framework])
    }
    assert found == set()


def reads_the_environment(node: ast.AST, *, may_write: bool) -> bool:
    if isinstance(node, ast.Attribute) and node.attr in ("getenv", "environb"):
        return True
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        return any(alias.name in ("environ", "environb", "getenv") for alias in node.names)
    if isinstance(node, ast.Attribute) and node.attr == "environ":
        return not may_write
    held = node.value if isinstance(node, ast.Attribute | ast.Subscript) else None
    if not isinstance(held, ast.Attribute) or held.attr != "environ":
        return False
    return (
        isinstance(node.ctx, ast.Load)
        if isinstance(node, ast.Subscript)
        else getattr(node, "attr", "") in ("get", "items", "values")
    )


def test_the_environment_is_read_in_settings_alone() -> None:
    found = {
        f"{name(path)}:{getattr(node, 'lineno', 0)}"
        for path, tree in TREES.items()
        if name(path) != "integration_pipelines/settings.py"
        for node in ast.walk(tree)
        if reads_the_environment(node, may_write=name(path) in WRITES_THE_ENVIRONMENT)
    }
    assert found == set()


def test_no_vendor_is_named_outside_the_connectors() -> None:
    found = []
    for path in sorted((ROOT / "integration_pipelines").rglob("*")):
        if path.suffix not in (".py", ".sql", ".mako") or path.name == "demo.py":
            continue
        known = VENDOR_EXAMPLES.get(name(path), set())
        lines = enumerate(path.read_text().splitlines(), 1)
        found += [
            f"{name(path)}:{at}: {line.strip()}"
            for at, line in lines
            if VENDOR.search(line) and line.strip().strip('"') not in known and line.strip().removeprefix('"""') not in known
        ]
    assert found == []


def test_sql_over_our_own_tables_is_in_the_store_alone() -> None:
    speaks = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN|TABLE)\s+(?:public\.)?(" + "|".join(metadata.tables) + r")\b")
    found = set()
    for path, tree in TREES.items():
        if name(path).startswith("integration_pipelines/store/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and speaks.search(node.value):
                found.add(f"{name(path)}:{node.lineno}")
    assert found == set()


def test_nothing_is_connected_opened_or_loaded_by_an_import() -> None:
    found = {
        f"{name(path)}:{node.lineno}: {called(node)}"
        for path, tree in TREES.items()
        if path.name != "env.py"  # alembic runs it, nobody imports it
        for node in at_import(tree)
        if isinstance(node, ast.Call) and CONNECTS.match(called(node)) and (name(path), called(node)) not in CONNECTS_NOT
    }
    assert found == set()


def test_no_module_keeps_state() -> None:
    """No `global`, and no function that changes what its module holds."""
    found = set()
    for path, tree in TREES.items():
        held = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        for function in functions(tree):
            own = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            own |= {argument.arg for argument in ast.walk(function) if isinstance(argument, ast.arg)}
            for node in ast.walk(function):
                changed: ast.AST | None = None
                if isinstance(node, ast.Global):
                    found.add(f"{name(path)}:{node.lineno}: global")
                if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
                    changed = node.value
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATES:
                    changed = node.func.value
                if isinstance(changed, ast.Name) and changed.id in held - own:
                    found.add(f"{name(path)}:{changed.lineno}: {changed.id}")
    assert found == set()


def test_words_that_say_nothing_are_in_no_name() -> None:
    found = set()
    for path, tree in TREES.items():
        named = [path.stem, *(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
        for word in set(named) - FRAMEWORKS_WORDS:
            parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", word)
            found |= {f"{name(path)}: {word}" for part in parts if part.lower() in NOT_USED}
    assert found == set()


def test_every_setting_stands_in_the_readme() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README.md yet")
    rows = set(re.findall(r"^\|\s*`([A-Z_]+)`", readme.read_text(), re.MULTILINE))
    assert set(VARIABLES) - rows == set()


def test_the_layers_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
