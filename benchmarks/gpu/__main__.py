"""Run the command of this folder."""

from art_ext.benchmarks.gpu.command import main

if __name__ == "__main__":
    main()
