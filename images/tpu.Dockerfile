# vLLM's server for Google TPUs, behind the entrypoint that both accelerators' images share.
#
# Left out on purpose:
# - a `# syntax=` line: Docker's own frontend has known COPY --link since Docker 23, so a build needs no second image for it;
# - RUN, and --chmod beside --link (which turns --link off): with either, BuildKit must download and unpack the gigabytes
#   of the base. The scripts are executable in the context instead;
# - labels that differ from build to build, such as created and revision: an unchanged image must keep its digest, or its
#   pods would roll.
ARG BASE_IMAGE=docker.io/vllm/vllm-tpu:v0.27.0@sha256:d6748bc7b1b020ab6411506d4bf30f8bfabb5db2b8505328f26d1a545b479df8

FROM ${BASE_IMAGE}

ARG BASE_IMAGE
LABEL org.opencontainers.image.title="vllm-fungibility TPU" \
      org.opencontainers.image.description="vLLM OpenAI-compatible server that serves on a TPU node and idles on an NVIDIA GPU node" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

COPY --link fungibility-entrypoint fungibility-health fungibility-drain /usr/local/bin/
# In a folder of its own: the entrypoint names it in PYTHONPATH, where another file could shadow a module of the server.
COPY --link fungibility_drain.py /usr/local/lib/fungibility/

# The image's accelerator: the entrypoint serves on it and idles on the other.
ENV ACCELERATOR=tpu

EXPOSE 8000
ENTRYPOINT ["/usr/local/bin/fungibility-entrypoint"]
