"""`python -m aio run`: continues a prompt."""
import argparse
import sys

from . import AioError, Engine, Sampling


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m aio")
    run = parser.add_subparsers(dest="command", required=True).add_parser("run", help="continue a prompt")
    run.add_argument("-m", "--model", required=True, help="GGUF file or compiled artefact")
    run.add_argument("-p", "--prompt", required=True, help="text to continue")
    run.add_argument("-n", "--max-tokens", type=int, default=128, help="tokens to generate, 0 for as many as the context has room for")
    run.add_argument("-t", "--threads", type=int, default=0, help="threads, 0 for one per core")
    run.add_argument("--device", default="cpu", help="cpu, cuda, ascend or interp")
    run.add_argument("--temp", type=float, default=0.0, help="temperature, 0 for the most likely tokens")
    run.add_argument("--seed", type=int, default=0, help="seed of the noise")
    options = parser.parse_args()
    try:
        engine = Engine(options.model, device=options.device, threads=options.threads)
        sampling = Sampling(temperature=options.temp, seed=options.seed)
        for text in engine.generate(options.prompt, max_tokens=options.max_tokens, sampling=sampling):
            print(text, end="", flush=True)
        print()
    except (AioError, ValueError, OverflowError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (BrokenPipeError, KeyboardInterrupt):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
