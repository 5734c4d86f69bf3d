"""Plain HTTP on loopback for what does not travel by gRPC: blobs, and blocks of files on volumes."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

BLOCK = 8 * 1024 * 1024  # of a volume, as the client cuts files

Locate = Callable[[str, str], Path]  # (volume id, path on it) -> the committed file


class Web:
    def __init__(self, folder: Path, locate: Locate) -> None:
        self.folder = folder
        self.locate = locate
        self.port = 0
        self.runner: web.AppRunner | None = None

    async def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        app = web.Application(client_max_size=1 << 32)
        app.router.add_put("/blob/{name}", self._put)
        app.router.add_get("/blob/{name}", self._get)
        app.router.add_put("/block/{name}", self._put)
        app.router.add_get("/volume/{volume}", self._read)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def shut(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    def url(self, kind: str, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{kind}/{name}"

    def block_url(self, volume: str, path: str, start: int, length: int) -> str:
        return f"{self.url('volume', volume)}?path={quote(path, safe='')}&start={start}&length={length}"

    def stored(self, name: str) -> Path:
        return self.folder / name

    async def _put(self, request: web.Request) -> web.Response:
        content = await request.read()
        md5 = hashlib.md5(content)
        sent = request.headers.get("Content-MD5")
        if sent and sent != base64.b64encode(md5.digest()).decode():
            return web.Response(status=400, text="The Content-MD5 you specified did not match what we received.")
        target = self.stored(request.match_info["name"])
        scratch = target.with_name(f"{target.name}.{id(request)}")
        scratch.write_bytes(content)
        scratch.replace(target)
        return web.Response(headers={"ETag": f'"{md5.hexdigest()}"'}, body=b"stored")

    async def _get(self, request: web.Request) -> web.StreamResponse:
        path = self.stored(request.match_info["name"])
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    async def _read(self, request: web.Request) -> web.Response:
        start, length = int(request.query["start"]), int(request.query["length"])
        try:
            with self.locate(request.match_info["volume"], request.query["path"]).open("rb") as file:
                file.seek(start)
                return web.Response(body=file.read(length))
        except FileNotFoundError:
            return web.Response(status=404)
