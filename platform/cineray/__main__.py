"""`python -m cineray` is `cineray`: what a Ray job's entry point calls, without needing the script on PATH."""

from cineray.cli.main import main

if __name__ == "__main__":
    main()
