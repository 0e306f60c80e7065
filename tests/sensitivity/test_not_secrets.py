"""What must stay: the hard negatives of coding sessions."""

from __future__ import annotations

import pytest
from tests.sensitivity.samples import HEX, drawn, encoded

from knowledge_system.sensitivity.detector import find

SHA1 = drawn(40, HEX)
SHA256 = drawn(64, HEX)
UUID = "198393f2-22db-477b-ac77-1825bea883ae"


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "API_KEY=your-api-key",
        "api_key: '<your key here>'",
        "API_KEY=${API_KEY}",
        "password: $DB_PASSWORD",
        "password: {{ vault_password }}",
        "token = process.env.GITHUB_TOKEN",
        "token: ${{ secrets.GITHUB_TOKEN }}",
        'password = os.environ["PASSWORD"]',
        "API_KEY=xxxxxx",
        "AWS_SECRET_ACCESS_KEY=****************",
        "SECRET_KEY=changeme",
        "password: None",
        "token=None",
        "password: string;",
        "password: str | None = None",
        "token = get_token()",
        "self.token = token",
        "password=password, token=token",
        "config.Password = values[EnvPassword]",
        "const [password, setPassword] = useState('')",
        "PasswordField: configuration.Password,",
        "apiKey: config.apiKey,",
        "key={file.path}",
        "for key, value in items(): cache_key = (url, method)",
        "the token expires; use another token for auth",
        'input_tokens: 12345, "output_tokens": 678',
        "max_tokens=4096",
        "tokenizer_path=/models/tokenizer.json",
        "PASSWORD_FILE=/run/secrets/db_password",
        '"LABEL_PASSWORD": "Heslo",',
        '"FORGOT_PASSWORD": "Has oblidat la teva contrasenya?",',
        '"password": "Passwort"',
        "--- PASS: TestDirWithinWatchWindow/day_is_today (0.00s)",
        "public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI",
        'password: "$argon2id$v=19$m=65536,t=3,p=2$BpLnfgDsc2WD8F2q$o/vzA4myCqZZ36bUGsDY"',
        'HashPassword("password", salt, 1000)',
        "sort(key=lambda item: item.created_at_timestamp2)",
        "onkeydown='javascript:alert(1)'",
        "docker run -p 8080:80 -u 1000:1000 image",
        "ssh -p 2222 host",
        "Basic authentication username and Bearer authentication",
        "Authorization: Basic <credentials>",
        "https://user:${PASSWORD}@host/",
        "Error: Invalid token: expected ')'",
        "feat(auth): rotate refresh tokens",
    ],
)
def test_placeholders_code_and_prose_stay(text: str) -> None:
    assert find(text) == []


@pytest.mark.parametrize(
    "text",
    [
        f"commit {SHA1}",
        f"Merge {SHA1[:12]} into {SHA1[20:32]}",
        f"sha256:{SHA256}",
        f"image@sha256:{SHA256}",
        f'"integrity": "sha512-{encoded(drawn(63))}=="',
        f"session {UUID}",
        f'"toolUseID":"toolu_{drawn(24)}"',
        f'"encrypted_content":"gAAAAAB{drawn(400, seed=9)}"',
        f'"signature":"{encoded(drawn(300, seed=8))}"',
        f"data:image/png;base64,iVBORw0KGgo{encoded(drawn(600, seed=6))}",
        f"key: {SHA1}",
        "semver 10.20.30-rc.1+build.5",
        "v0.0.0-20260210123456-abc123def456",
    ],
)
def test_hashes_ids_images_and_sealed_blobs_stay(text: str) -> None:
    assert find(text) == []


def test_a_text_without_anything_costs_no_findings() -> None:
    assert find("") == []
    assert find("\n \t") == []
    assert find("a" * 1000) == []
