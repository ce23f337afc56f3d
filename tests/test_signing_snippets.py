"""The functions of docs/signing.md, run as they stand there: each signs as the service does."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from proxy import signing
from tests.kit import kotlin
from tests.kit.shared import required
from tests.test_signing import SECRET, VECTORS, parameters

PAGE = (Path(__file__).parents[1] / "docs" / "signing.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"^```(python|js|php|go|swift|kotlin)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
ALWAYS = {"python", "js", "go"}
"""what runs in CI"""
CALLS = {
    "python": """
import json, sys
for secret, key, parameters in json.load(sys.stdin):
    print(signed_address(secret, key, parameters))
""",
    "js": """
import { readFileSync } from "node:fs";
for (const [secret, key, parameters] of JSON.parse(readFileSync(0))) console.log(signedAddress(secret, key, parameters));
""",
    "php": """
foreach (json_decode(file_get_contents('php://stdin'), true) as [$secret, $key, $parameters]) {
    echo signed_address($secret, $key, $parameters), "\\n";
}
""",
    "go": """
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	var cases [][]json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	for _, one := range cases {
		var secret, key string
		var parameters map[string]string
		json.Unmarshal(one[0], &secret)
		json.Unmarshal(one[1], &key)
		json.Unmarshal(one[2], &parameters)
		fmt.Println(SignedAddress(secret, key, parameters))
	}
}
""",
    "swift": """
let cases = try! JSONSerialization.jsonObject(with: FileHandle.standardInput.readDataToEndOfFile()) as! [[Any]]
for one in cases {
    print(signedAddress(secret: one[0] as! String, key: one[1] as! String, parameters: one[2] as! [String: String]))
}
""",
}
# Kotlin has no JSON: its lines are secret, key, name, value …, each in hexadecimal.
KOTLIN = """
fun main() {
    fun text(hex: String) = String(hex.chunked(2).map { it.toInt(16).toByte() }.toByteArray())
    for (line in generateSequence(::readLine)) {
        val words = line.split(" ").map(::text)
        println(signedAddress(words[0], words[1], words.drop(2).chunked(2).associate { it[0] to it[1] }))
    }
}
"""
ODD = "aZ09-._~/ %+&=?#'()*!,:;@äßé日本🙂\"\\<>"
Case = tuple[str, str, dict[str, str]]


def cases(*, decomposed: bool) -> list[Case]:
    """The shared vectors, and two hundred random ones; *decomposed*: also a key that is not in NFC."""
    chance = random.Random(5)

    def text(most: int, letters: str = ODD) -> str:
        return "".join(chance.choices(letters, k=chance.randint(1, most)))

    found: list[Case] = [(SECRET.decode(), key, parameters(given)) for key, given, _, _ in VECTORS]
    for _ in range(200):
        said = {text(6, "abcdwhqs"): text(8) for _ in range(chance.randint(0, 6))}
        said.pop("s", None)
        if said and chance.random() < 0.5:
            said["any"] = ",".join(sorted(chance.sample(sorted(said), chance.randint(1, len(said)))))
        found.append((text(40), text(30), said))
    return [*found, ("secret", unicodedata.normalize("NFD", "u/Größe.jpg"), {"w": "1"})] if decomposed else found


def run(language: str, folder: Path, given: list[Case]) -> str | None:
    """What the snippet of *language* prints for *given*; None if its runtime is not here."""
    snippet = SNIPPETS[language]
    programs = {
        "python": ["python3", "sign.py"], "js": ["node", "sign.mjs"], "php": ["php", "sign.php"],
        "go": ["go", "run", "sign.go", "main.go"], "swift": ["swift", "sign.swift"], "kotlin": ["java"],
    }  # fmt: skip
    program = programs[language]
    place = shutil.which(program[0]) or shutil.which(program[0], path="/usr/local/go/bin")
    if place is None:
        return None
    text = json.dumps(given)
    if language == "go":
        (folder / "sign.go").write_text(snippet.replace("package media", "package main", 1))
        (folder / "main.go").write_text(CALLS["go"])
    elif language == "kotlin":
        program = kotlin.compiled(snippet + KOTLIN, folder)
        words = ([secret, key, *(word for pair in said.items() for word in pair)] for secret, key, said in given)
        text = "".join(" ".join(word.encode().hex() for word in line) + "\n" for line in words)
    else:
        (folder / program[1]).write_text(snippet + CALLS[language])
    done = subprocess.run([place, *program[1:]], cwd=folder, input=text, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_every_language() -> None:
    assert set(SNIPPETS) == {"python", "js", "php", "go", "swift", "kotlin"}


@pytest.mark.parametrize("language", [
    pytest.param(name, marks=[pytest.mark.slow, pytest.mark.timeout(300)] if name == "kotlin" else []) for name in sorted(SNIPPETS)
])  # fmt: skip
def test_the_function_on_the_page_signs_as_the_service_does(language: str, tmp_path: Path) -> None:
    given = cases(decomposed=language != "go")
    printed = run(language, tmp_path, given)
    if printed is None:
        (pytest.fail if required() and language in ALWAYS else pytest.skip)(f"there is no runtime for {language}")
    expected = [signing.address(secret.encode(), key, said) for secret, key, said in given]
    assert printed.splitlines() == expected
    assert [line.rpartition("s=")[2] for line in printed.splitlines()[:3]] == [signature for *_, signature in VECTORS]
