#!/usr/bin/env bash
# openrlhf 0.11.2: the client of a remote reward model asks five times, a second apart, whatever the
# answer was, and passes over Retry-After.
#
# Expected: it waits as long as the header Retry-After of a 429 says (RFC 9110, section 10.2.3), and
# does not repeat a request that a 422 calls wrong.
# Seen: 5 requests within about 4 seconds in both cases. After them it gives up, and the sample has
# no reward. So a server that is busy for 10 seconds costs rewards, if it says so at once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet setuptools==80.9.0 wheel==0.45.1 packaging==25.0 aiohttp==3.13.2
"$folder/venv/bin/pip" install --quiet --no-deps --no-build-isolation openrlhf==0.11.2
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import sysconfig
import sys
import time
import types

from aiohttp import web

# The client needs aiohttp alone. The packages that it lies in import torch and more.
for name in ("openrlhf", "openrlhf.utils"):
    sys.modules[name] = package = types.ModuleType(name)
    package.__path__ = [f"{sysconfig.get_path('purelib')}/{name.replace('.', '/')}"]

from openrlhf.utils.agent import SingleTurnAgentExecutor


async def asked(status: int) -> tuple[int, float]:
    """Return how often the client asks a server that refuses, and the seconds from first to last."""
    times = []

    async def refuse(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        return web.Response(status=status, headers={"Retry-After": "10"})

    app = web.Application()
    app.router.add_post("/get_reward", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = SingleTurnAgentExecutor(f"http://127.0.0.1:{port}/get_reward")
    try:
        await client._fetch_rewards_via_http(["question and answer"], ["question"], ["label"])
    except RuntimeError:
        pass
    await runner.cleanup()
    return len(times), times[-1] - times[0]


for status in (429, 422):
    count, seconds = asyncio.run(asked(status))
    print(f"{status} with Retry-After: 10: asked {count} times in {seconds:.1f} s")
    assert count == 5
    assert seconds < 9
PYTHON
