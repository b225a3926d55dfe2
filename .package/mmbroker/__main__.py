"""``python -m mmbroker``: the command line."""

from mmbroker.streams.cli.main import main

if __name__ == "__main__":
    main()
