"""`python -m tilewright`: the same as the `tilewright` command."""

from tilewright.cli.main import main

if __name__ == "__main__":
    main(prog_name="tilewright")
