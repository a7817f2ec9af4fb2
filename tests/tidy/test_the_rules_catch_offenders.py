"""Each rule finds its violation in bad code and nothing in good code."""

from __future__ import annotations

import pytest

from tests.tidy import rules
from tests.tidy.rules import BANNED_WORDS, HOUSE_RULES, Rule
from tests.tidy.sources import source

LONG_BODY = "\n    x = 1" * (rules.FUNCTION_LINES_MAX + 1)
LONG_DOCSTRING = '"""Long.' + "\n    line" * rules.FUNCTION_LINES_MAX + '\n    """'

OFFENDERS: list[tuple[Rule, str, str]] = [
    (rules.files_are_short, "core/a.py", '"""A."""\n' + "\n" * rules.FILE_LINES_MAX),
    (rules.functions_are_short, "core/a.py", f"def long():{LONG_BODY}\n"),
    (rules.functions_are_short, "tests/a.py", f"class A:\n  async def long(self):{LONG_BODY}\n"),
    (rules.modules_say_what_they_are_for, "core/__init__.py", ""),
    (rules.public_names_are_documented, "core/a.py", "def public(): ...\n"),
    (rules.public_names_are_documented, "ops/a.py", "class Public: ...\n"),
    (rules.public_names_are_documented, "ops/a.py", 'class P:\n  """P."""\n  def m(self): ...\n'),
    (rules.the_domain_is_pure, "core/domain/a.py", "import time\n"),
    (rules.the_domain_is_pure, "core/domain/a.py", "from random import choice\n"),
    (rules.the_domain_is_pure, "core/domain/a.py", "from socket import create_connection\n"),
    (rules.the_domain_is_pure, "core/domain/a.py", "import msgspec\n"),
    (rules.the_domain_is_pure, "core/domain/a.py", "from core.eventstore import kv\n"),
    (rules.the_domain_is_pure, "core/domain/a.py", "from ..store import kv\n"),
    (rules.the_domain_is_pure, "core/domain/a.py", "x = datetime.now(UTC)\n"),
    (rules.the_domain_is_pure, "core/domain/a/b.py", "async def wait():\n  await x\n"),
    (rules.the_domain_is_pure, "core/domain/a/b.py", "open('x')\n"),
    (rules.cni_build_needs_no_package, "cni/a.py", "from core import errors\n"),
    (rules.cni_build_needs_no_package, "cni/a.py", "import msgspec\n"),
    (rules.nothing_is_left_for_later, "docs/a.py", f"x = 1  # {BANNED_WORDS[0]}: later\n"),
    (rules.nothing_is_left_for_later, "tests/a.py", f"# {BANNED_WORDS[2]}\n"),
    (rules.only_tools_for_people_print, "nodeagent/a.py", "print('x')\n"),
    (rules.only_tools_for_people_print, "tests/a.py", "print('x')\n"),
    (rules.no_path_of_one_machine, "ops/a.py", "ROOT = '/tmp/orbweaver'\n"),
    (rules.no_path_of_one_machine, "core/a.py", "ROOT = '/home/somebody'\n"),
    (rules.no_path_of_one_machine, "core/a.py", "ROOT = '/root'\n"),
    (rules.tasks_are_supervised, "nodeagent/a.py", "t = asyncio.create_task(work())\n"),
    (rules.tasks_are_supervised, "core/eventstore/a.py", "t = loop.create_task(work())\n"),
    (rules.tasks_are_supervised, "ops/a.py", "from asyncio import *\nensure_future(work())\n"),
    (rules.formats_state_their_byte_order, "core/a.py", "A = struct.Struct('3i')\n"),
    (rules.formats_state_their_byte_order, "ops/a.py", "struct.unpack_from(f'{n}Q', data)\n"),
    (rules.formats_state_their_byte_order, "nodeagent/a.py", "struct.pack('@P', 1)\n"),
    (rules.tests_are_sentences, "tests/a/test_a.py", "def test_release_2(): ...\n"),
    (rules.tests_assert_something, "tests/a/test_a.py", "def test_it_works_well():\n  work()\n"),
    (
        rules.tests_do_not_sleep,
        "tests/a/test_a.py",
        "async def test_it_waits_well():\n  await asyncio.sleep(0.1)\n  assert done\n",
    ),
]

GOOD: list[tuple[Rule, str, str]] = [
    (rules.files_are_short, "core/a.py", "\n" * rules.FILE_LINES_MAX),
    (rules.functions_are_short, "core/a.py", f"def f():\n    {LONG_DOCSTRING}\n    return 1\n"),
    (rules.modules_say_what_they_are_for, "core/__init__.py", '"""Why."""\n'),
    (rules.public_names_are_documented, "core/a.py", "def _private(): ...\n"),
    (rules.public_names_are_documented, "tests/a.py", "def helper(): ...\n"),
    (
        rules.public_names_are_documented,
        "core/a.py",
        'class A(Store):\n  """A."""\n  def read(self): ...\n',
    ),
    (
        rules.the_domain_is_pure,
        "core/domain/a.py",
        (
            "from __future__ import annotations\nimport datetime\nfrom socket import inet_pton\n"
            "from core.domain.model import Pool\nfrom core.errors import BadInput\n"
        ),
    ),
    (rules.the_domain_is_pure, "core/eventstore/a.py", "import time\nx = time.monotonic()\n"),
    (
        rules.cni_build_needs_no_package,
        "cni/a.py",
        "import _socket\nimport cni.b\n",
    ),
    (rules.nothing_is_left_for_later, "core/a.py", "# a mastodon and an xxxl hackney\n"),
    (rules.only_tools_for_people_print, "ops/a.py", "print('x')\n"),
    (rules.no_path_of_one_machine, "ops/a.py", "A = '/run/orbweaver'\nB = '/workflows/x'\n"),
    (rules.formats_state_their_byte_order, "core/a.py", "Struct('=3i')\nx.pack(1)\n"),
    (
        rules.tasks_are_supervised,
        "core/process/supervision.py",
        "t = asyncio.create_task(work())\n",
    ),
    (rules.tasks_are_supervised, "core/a.py", "supervisor.start(TaskSpec('view', follow))\n"),
    (rules.tests_are_sentences, "tests/a/test_a.py", "def test_an_address_is_kept(): ...\n"),
    (
        rules.tests_assert_something,
        "tests/a/test_a.py",
        "def test_a_bad_text_is_refused():\n  with pytest.raises(BadInput):\n    parse('')\n",
    ),
    (
        rules.tests_do_not_sleep,
        "tests/a/test_a.py",
        "async def test_others_may_run():\n  await asyncio.sleep(0)\n  assert done\n",
    ),
]


@pytest.mark.parametrize(("rule", "path", "text"), OFFENDERS)
def test_a_violation_is_found_and_located(rule: Rule, path: str, text: str) -> None:
    findings = list(rule(source(path, text)))

    assert findings
    assert all(finding.location.startswith(path) for finding in findings)


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_code_that_keeps_the_rule_has_no_finding(rule: Rule, path: str, text: str) -> None:
    assert list(rule(source(path, text))) == []


def test_every_rule_is_tried_with_bad_and_with_good_code() -> None:
    assert {rule for rule, _, _ in OFFENDERS} == set(HOUSE_RULES)
    assert {rule for rule, _, _ in GOOD} == set(HOUSE_RULES)
