"""Runs a server for a test: settings as JSON in the first argument, the address on stdout."""

import json
import sys
from pathlib import Path


def main():
    from impasto.server import ServerSettings, serve

    given = json.loads(sys.argv[1])
    given["state"] = Path(given["state"])
    for name in ("allowed_hosts", "cors_origins"):
        given[name] = tuple(given.get(name, ()))
    serve(ServerSettings(**given), on_listening=lambda address: sys.stdout.write(f"{address}\n") and sys.stdout.flush())


if __name__ == "__main__":
    main()
