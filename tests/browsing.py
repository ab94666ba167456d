"""Requests to an application of ours without a server."""

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI


class Browser:
    """Follows nothing, and keeps nothing."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._get(path, options))

    async def _get(self, path: str, options: dict[str, Any]) -> httpx.Response:
        async with httpx.AsyncClient(transport=self._transport, base_url="http://test") as client:
            return await client.get(path, **options)
