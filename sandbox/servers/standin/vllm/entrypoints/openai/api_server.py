"""`python3 -m vllm.entrypoints.openai.api_server`: the module that an image's entrypoint starts."""

from ...standin.server import main

if __name__ == "__main__":
    main()
