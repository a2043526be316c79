"""`python -m paidwatch`."""

from paidwatch.cli.root import main

if __name__ == "__main__":
    main(prog_name="paidwatch")
