"""The machinery of `make mutants`: what it is asked about, and what it says of a mutant.

The draw needs cosmic-ray, which `make mutants` installs, and is not tested here.
"""

import signal
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from bench.mutants import imports
from bench.mutants import packages as in_packages
from bench.mutants.mutant import Mutant, equivalent
from bench.mutants.packages import SOURCE, packages
from bench.mutants.session import EQUIVALENT, KILLED, SURVIVED, TIMEOUT, judged, table
from bench.mutants.trial import Outcome

ROOT = Path(__file__).parents[2]
PACKAGES = packages()
SOURCE_OF_AREA = "def area(a, b):\n    return a * b\n"
PLUS = Mutant("area.py", SOURCE_OF_AREA, SOURCE_OF_AREA.replace("a * b", "a + b"))
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from bench.mutants.mutant import Mutant
from bench.mutants.trial import Trials

place = Path(sys.argv[1])
trials = Trials(place / "tree", place)
path = place / "tree" / "src" / "wideneck" / "area.py"
source = path.read_text()
trials.usual["test_area.py"] = replace(trials.as_it_is("test_area.py"), cpu=0)  # 3 s are enough
for formula in ("a + b", "b * a", "area(a, b) if a else 0", "[0 for _ in iter(int, 1)]"):
    mutant = Mutant("area.py", source, source.replace("a * b", formula))
    outcome = trials.of(mutant, ["test_area.py"])
    print(outcome.code, outcome.timeout, path.read_text() == source)
print("area" in sys.modules, "pytest" in sys.modules)
"""


@pytest.mark.parametrize("name", PACKAGES)
def test_every_module_of_a_package_has_tests(name):
    package = PACKAGES[name]
    assert package.modules()
    assert [module for module in package.modules() if not package.asked(module)] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_every_pattern_and_every_name_of_a_package_finds_a_file(name):
    package = PACKAGES[name]
    assert all(list((ROOT / SOURCE).glob(pattern)) for pattern in package.where)
    assert all(list((ROOT / "tests").glob(pattern)) for pattern in package.tests)
    assert {*chain(*package.by_name.values())} <= {*package.modules()}
    assert {ROOT / "tests" / test for test in package.by_name} <= package.test_files()


@pytest.mark.parametrize("name", PACKAGES)
def test_every_test_file_beside_the_modules_of_a_package_is_asked_about_some(name):
    """Or an error that it would tell is reported as a survivor."""
    asked = {
        test
        for package in PACKAGES.values()
        for module in package.modules()
        for test in package.asked(module)
    }
    for pattern in PACKAGES[name].where:
        folder = ROOT / "tests" / pattern.partition("*")[0]
        files = folder.rglob("test_*.py") if "**" in pattern else folder.glob("test_*.py")
        missing = {str(file.relative_to(ROOT)) for file in files} - asked
        assert missing == set()


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A package that passes a name on, a module behind it, a helper and four test files."""
    files = {
        "src/wideneck/__init__.py": "if TYPE_CHECKING:\n    from wideneck.shapes.area import area",
        "src/wideneck/shapes/area.py": "from wideneck.shapes.sides import sides",
        "src/wideneck/shapes/sides.py": "if TYPE_CHECKING:\n    from wideneck.shapes.area import x",
        "tests/shapes/squares.py": "import wideneck as wn\nwn.area(2, 2)",
        "tests/shapes/test_by_helper.py": "import math\nfrom squares import square",
        "tests/shapes/test_sides.py": "from wideneck.shapes import sides",
        "tests/shapes/test_edges.py": "from wideneck.shapes.sides import sides",
        "tests/shapes/test_else.py": "import math",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for module in (imports, in_packages):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "TESTS", tmp_path / "tests")
    return in_packages.Package(["shapes/*.py"], ["shapes/test_*.py"])


def test_what_a_module_is_asked_follows_from_the_imports(house):
    assert house.modules() == ["shapes/area.py", "shapes/sides.py"]
    assert house.asked("shapes/area.py") == ["tests/shapes/test_by_helper.py"]
    assert house.asked("shapes/sides.py") == [
        "tests/shapes/test_sides.py",  # is named like it
        "tests/shapes/test_edges.py",
        "tests/shapes/test_by_helper.py",  # imports what imports it
    ]


def test_a_test_file_that_reaches_a_module_by_its_name_is_asked(house):
    named = replace(house, by_name={"shapes/test_else.py": ["shapes/area.py"]})
    assert "tests/shapes/test_else.py" in named.asked("shapes/area.py")
    assert "tests/shapes/test_else.py" in named.asked("shapes/sides.py")  # which area.py imports


def test_what_is_listed_as_equivalent_still_stands_in_a_module():
    """If this fails: the line has changed; plant the error again, or take it off the list."""
    modules = {module for package in PACKAGES.values() for module in package.modules()}
    lines = {
        " ".join(line.split())
        for module in modules
        for line in (ROOT / SOURCE / module).read_text().split("\n")
    }
    for (was, becomes), why in equivalent().items():
        assert was in lines, was
        assert was != becomes, was
        assert why, was


def test_mutants_are_told_from_code_in_a_process_that_has_not_seen_it(tmp_path):
    source = tmp_path / "tree" / SOURCE
    source.mkdir(parents=True)
    (source / "area.py").write_text(SOURCE_OF_AREA)
    (tmp_path / "tree" / "test_area.py").write_text(
        "import sys\nsys.path.insert(0, 'src/wideneck')\nfrom area import area\n\n\n"
        "def test_area():\n    assert area(2, 3) == 6\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    first, *rest = run.stdout.splitlines()
    assert first.startswith("test_area.py as it is: passed")
    assert rest == [
        "1 False True",  # a wrong formula
        "0 False True",  # another form of the right one
        "1 False True",  # no end of recursion
        f"{-signal.SIGXCPU} True True",  # no end at all
        "False True",
    ]


def test_a_mutant_is_known_by_its_words_and_not_by_its_place():
    below = Mutant("area.py", "\n\n" + PLUS.source, "\n\n" + PLUS.changed)
    assert (PLUS.was, PLUS.becomes) == ("return a * b", "return a + b")
    assert (below.was, below.becomes) == (PLUS.was, PLUS.becomes)
    assert (PLUS.line, below.line) == (2, 4)
    assert Mutant("area.py", "x =  1", "x =   2").becomes == "x = 2"


def test_what_becomes_of_a_mutant():
    assert judged(Outcome(0, False, 1.0, 1.0, "")) == SURVIVED
    assert judged(Outcome(1, False, 1.0, 1.0, "")) == KILLED
    assert judged(Outcome(2, False, 1.0, 1.0, "")) == KILLED  # pytest could not import it
    assert judged(Outcome(-9, True, 5.0, 1.0, "")) == TIMEOUT


def test_a_listed_mutant_is_known_by_its_words_wherever_it_stands():
    line = "wide = z.double() if max(-low.item(), high.item()) > 2.0**60 else z"
    at_home = Mutant("audits/output/summary.py", line, line.replace("max", "min"))
    moved = Mutant("area.py", f"if moved:\n    {line}", f"if moved:\n    {at_home.changed}")
    other = Mutant("audits/output/summary.py", line, line.replace("2.0", "4.0"))
    known = equivalent()
    assert known[at_home.was, at_home.becomes].startswith("On a CPU torch takes the deviation")
    assert (moved.was, moved.becomes) in known
    assert (other.was, other.becomes) not in known


def test_the_table_counts_each_mutant_once():
    other = Mutant("volume.py", "", "x")
    ends = [(PLUS, KILLED), (PLUS, SURVIVED), (other, TIMEOUT), (other, EQUIVALENT), (PLUS, KILLED)]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(ends).split("\n")]
    assert rows[0] == ["module", "planted", "killed", "equivalent", "survived", "timeouts"]
    assert rows[2:] == [
        ["area.py", "3", "2", "0", "1", "0"],
        ["volume.py", "2", "0", "1", "0", "1"],
        ["all", "5", "2", "1", "1", "1"],
    ]
