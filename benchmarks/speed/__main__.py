"""Time the released way beside ours, with the same weights, in one run."""

from speed.compare import main

if __name__ == "__main__":
    main()
