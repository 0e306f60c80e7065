"""The health paths as load balancers, supervisors and people ask them."""

from __future__ import annotations

from pathlib import Path

import httpx2
from tests.interfaces.http.conftest import configure, serving

from knowledge_system.testing.scripted_provider import ScriptedProvider

PATHS = ("/health", "/health/live", "/health/ready")


async def test_without_a_token_only_the_status_is_told_and_with_one_everything(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    configure(tmp_path / "home", provider)
    async with serving(tmp_path / "home", provider, token="right-token") as served, client(served.url) as anybody:
        for path in PATHS:
            response = await anybody.get(path, headers={"host": "balancer.example"})
            assert (response.status_code, response.headers["cache-control"]) == (200, "no-store"), path
            assert response.json().keys() == {"timestamp", "status"}
            assert (await anybody.head(path)).status_code == 200
            wrong = await anybody.get(path, headers={"authorization": "Bearer wrong"})
            assert wrong.status_code == 401, "a guess must count as one"

        known = {"authorization": "Bearer right-token"}
        checks = (await anybody.get("/health", headers=known)).json()["checks"]
        ready = (await anybody.get("/health/ready", headers=known)).json()["checks"]
        live = (await anybody.get("/health/live", headers=known)).json()
    assert {"qdrant", "sqlite", "provider_groq", "budget", "cache", "capture", "disk", "memory"} <= checks.keys()
    assert checks["provider_groq"]["status"] == "up"
    assert ready.keys() == {"qdrant", "sqlite"}
    assert live.keys() == {"timestamp", "status"}
    assert provider.requests == [], "a provider was asked"


async def test_on_loopback_details_are_for_everybody_the_guard_lets_in(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    configure(tmp_path / "home", provider)
    async with serving(tmp_path / "home", provider) as served, client(served.url) as own:
        response = await own.get("/health", headers={"accept": "application/health+json, */*;q=0.1"})
        assert response.headers["content-type"] == "application/health+json"
        assert response.json()["checks"]["sqlite"]["status"] == "up"
        assert (await own.get("/health")).headers["content-type"] == "application/json"
        assert (await own.get("/health", headers={"host": "evil.example"})).status_code == 403
        assert (await own.post("/health")).status_code == 405


def client(url: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=url, timeout=60)
