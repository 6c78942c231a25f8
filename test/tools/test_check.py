# SPDX-License-Identifier: Apache-2.0
"""tools/check finds each kind of thing it is there for, at its line, and nothing in clean code.

Each test plants one thing in a tree of its own. usage: test_check.py, from anywhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CHECK = Path(__file__).resolve().parents[2] / "tools" / "check"
HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n"
WORDS = ("FIX" + "ME", "X" + "XX", "TO" + "DO")  # not to be found in this file


class CheckTest(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.tree = Path(place.name)
        for name in ("src/base/base.h", "src/env/env.h", "src/env/posix/posix.h", "src/wire/wire.h",
                     "src/store/store.h", "src/xprt/xprt.h", "src/server/reactor.h",
                     "src/client/client.h", "include/ctxkv.h"):  # fmt: skip
            self.write(name, "")

    def write(self, name: str, text: str, head: str = HEAD) -> None:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + text)

    def check(self) -> list[str]:
        done = subprocess.run([sys.executable, CHECK, self.tree], capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        self.assertEqual(done.returncode, 1 if lines else 0, done.stderr)
        return lines

    def assert_found(self, place: str, *words: str) -> None:
        lines = self.check()
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith(place + ": "), lines)
        for word in words:
            self.assertIn(word, lines[0])

    def assert_clean(self) -> None:
        self.assertEqual(self.check(), [])

    def test_allowed_includes_are_clean(self) -> None:
        self.write("src/store/a.c", '#include "store.h"\n\n#include "../base/base.h"\n#include "../env/env.h"\n')
        self.write("src/cmd/a.c", '#include "../../include/ctxkv.h"\n#include "../env/posix/posix.h"\n')
        self.write("src/client/a.c", '#include "../xprt/xprt.h"\n')
        self.assert_clean()

    def test_store_and_xprt_do_not_know_each_other(self) -> None:
        self.write("src/store/a.c", '#include "../xprt/xprt.h"\n')
        self.assert_found("src/store/a.c:2", "src/xprt/xprt.h")
        self.write("src/store/a.c", "")
        self.write("src/xprt/tcp/a.c", '\n#include "../../store/store.h"\n')
        self.assert_found("src/xprt/tcp/a.c:3", "src/store/store.h")

    def test_includes_do_not_go_up(self) -> None:
        self.write("src/base/a.c", '#include "../env/env.h"\n')
        self.assert_found("src/base/a.c:2")
        self.write("src/base/a.c", "")
        self.write("src/client/a.c", '#include "../server/reactor.h"\n')
        self.assert_found("src/client/a.c:2")
        self.write("src/client/a.c", "")
        self.write("src/cmd/a.c", '#include "../client/client.h"\n')
        self.assert_found("src/cmd/a.c:2")

    def test_back_ends_of_env_are_for_who_makes_one(self) -> None:
        self.write("src/server/a.c", '#include "../env/posix/posix.h"\n')
        self.assert_found("src/server/a.c:2", "env/env.h")

    def test_an_include_that_leads_nowhere_is_found(self) -> None:
        self.write("src/store/a.c", '#include "base.h"\n')
        self.assert_found("src/store/a.c:2")

    def test_banned_calls_are_found_with_what_to_use(self) -> None:
        for call, instead in (
            ("strcpy(a, b)", "snprintf"), ("sprintf(a, b)", "snprintf"), ("atoi(a)", "text_parse_u64"),
            ("rand()", "random"), ("time(NULL)", "now_ns"), ("malloc(1)", "alloc"), ("free(a)", "alloc"),
            ("pread(1, a, 1, 0)", "blk_"), ("socket(1, 2, 3)", "sock_"), ("usleep(1)", "timer"),
            ("assert(a)", "ASSERT"), ("abort()", "ASSERT"), ("printf(a)", "log_info"),
        ):  # fmt: skip
            with self.subTest(call):
                self.write("src/store/a.c", f"int x;\nint y = {call};\n")
                self.assert_found("src/store/a.c:3", instead)

    def test_calls_of_members_and_words_in_text_are_none(self) -> None:
        self.write(
            "src/store/a.c",
            "/* malloc(1) is\n * banned */\nvoid f(struct env *env)\n{\n"
            '\tenv->ops->free(env, "malloc(1)");\n\tenv->time(0);\n\tmy_free(1);\n'
            "\tops.send(1); // free(x)\n}\n",
        )
        self.assert_clean()

    def test_calls_in_their_place_are_none(self) -> None:
        self.write("src/env/posix/a.c", "void *x = malloc(1);\n")
        self.write("src/cmd/a.c", "void *x = malloc(1);\n")
        self.write("test/unit/a.c", "void *x = malloc(1);\n")
        self.assert_clean()

    def test_words_that_stop_the_build(self) -> None:
        for word in WORDS:
            with self.subTest(word):
                self.write("test/a.c", f"\n/* {word} mend */\n")
                self.assert_found("test/a.c:3", word)
        self.write("test/a.c", f'/* {WORDS[2]}(#12): later */\nchar x[] = "/tmp/a-{WORDS[1] * 2}";\n')
        self.assert_clean()

    def test_tables_are_sorted(self) -> None:
        self.write("src/tbl/metrics.def", 'MET(a, C, "", "t")\nMET(c, C, "", "t")\nMET(b, C, "", "t")\n')
        self.assert_found("src/tbl/metrics.def:4", "b", "c")
        self.write("src/tbl/metrics.def", 'MET(a, C, "", "t")\nMET(a, C, "", "t")\n')
        self.assert_found("src/tbl/metrics.def:3", "a")
        self.write("src/tbl/metrics.def", "")
        self.write("src/tbl/errors.def", 'ERR(B, 2001, M, "t")\nERR(A, 2002, M, "t")\nERR(C, 2002, M, "t")\n')
        self.assert_found("src/tbl/errors.def:4", "value")

    def plant(self, name: str, target: str, before: str, after: str) -> None:
        """A mutant that changes the second of three lines."""
        self.write(
            f"test/mutants/{name}.patch",
            f"What: it breaks.\nDies in: sim\n\n--- a/{target}\n+++ b/{target}\n"
            f"@@ -2,3 +2,3 @@\n int first;\n-{before}\n+{after}\n int last;\n",
            head="",
        )

    @unittest.skipUnless(shutil.which("patch"), "no patch here")
    def test_a_planted_bug_that_applies_is_clean_and_is_not_left(self) -> None:
        self.write("src/store/a.c", "int first;\nint good;\nint last;\n")
        self.plant("breaks", "src/store/a.c", "int good;", "int bad;")
        self.assert_clean()
        self.write("src/store/a.c", "\n\n\nint first;\nint good;\nint last;\n")  # it moved
        self.assert_clean()
        self.assertIn("good", (self.tree / "src/store/a.c").read_text())
        self.assertEqual([path.name for path in (self.tree / "src/store").iterdir()
                          if path.suffix in (".orig", ".rej")], [])  # fmt: skip

    @unittest.skipUnless(shutil.which("patch"), "no patch here")
    def test_a_planted_bug_that_does_not_apply_is_found(self) -> None:
        for what, code in (
            ("the line is another", "int first;\nint better;\nint last;\n"),
            ("what stands around it is another", "int start;\nint good;\nint last;\n"),
            ("it is the code already", "int first;\nint bad;\nint last;\n"),
        ):
            with self.subTest(what):
                self.write("src/store/a.c", code)
                self.plant("breaks", "src/store/a.c", "int good;", "int bad;")
                self.assert_found("test/mutants/breaks.patch:1", "does not apply", "tools/mutants")
        self.write("src/store/a.c", "int first;\nint good;\nint last;\n")
        self.assert_clean()
        self.plant("gone", "src/store/b.c", "int good;", "int bad;")
        self.assert_found("test/mutants/gone.patch:1")
        self.write("test/mutants/gone.patch", "What: no patch at all.\nDies in: sim\n", head="")
        self.assert_found("test/mutants/gone.patch:1")

    @unittest.skipUnless(shutil.which("patch"), "no patch here")
    def test_a_planted_bug_names_the_test_that_it_dies_in(self) -> None:
        self.write("src/store/a.c", "int first;\nint good;\nint last;\n")
        self.plant("breaks", "src/store/a.c", "int good;", "int bad;")
        patch = self.tree / "test/mutants/breaks.patch"
        whole = patch.read_text()
        for word in ("unit:store_put", "sim_store"):
            patch.write_text(whole.replace("Dies in: sim", f"Dies in: {word}"))
            self.assert_clean()
        for word in ("store_put", "unit:", "sim store_put"):
            patch.write_text(whole.replace("Dies in: sim", f"Dies in: {word}"))
            self.assert_found("test/mutants/breaks.patch:1", "Dies in")

    def test_files_say_their_licence(self) -> None:
        self.write("src/store/a.c", "int x;\n", head="")
        self.assert_found("src/store/a.c:1", "SPDX")


if __name__ == "__main__":
    unittest.main()
