"""The curl line can be pasted into a shell."""

import subprocess
from pathlib import Path

from service.demo.report import curl_line


def test_the_curl_line_survives_a_shell(tmp_path: Path) -> None:
    body = tmp_path / "it's a body.json"
    line = curl_line("http://127.0.0.1:1", "lk_x", "c1", body)
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True)
    assert words.stdout.splitlines()[-6:] == [
        "-H",
        "Authorization: Bearer lk_x",
        "-H",
        "Content-Type: application/json",
        "--data",
        f"@{body}",
    ]
