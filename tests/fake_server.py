"""The whole server with the fake engine, as a process: `python fake_server.py URI MODEL_FOLDER`."""

import asyncio
import logging
import sys

from fakes import FACTORY

from wyoming_piwhisper.app import serve
from wyoming_piwhisper.domain.settings import AsrSettings, ServerSettings, Settings

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    settings = Settings(server=ServerSettings(uri=sys.argv[1]), asr=AsrSettings(model=sys.argv[2]))
    sys.exit(asyncio.run(serve(settings, FACTORY)))
