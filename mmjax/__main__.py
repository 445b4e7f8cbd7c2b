"""`python -m mmjax` is the same program as the `mmjax` console command."""

from mmjax.cli.main import main

if __name__ == "__main__":
    main()
