# vLLM's server for NVIDIA GPUs, behind the entrypoint that both accelerators' images share.
#
# Left out on purpose:
# - a `# syntax=` line: Docker's own frontend has known COPY --link since Docker 23, so a build needs no second image for it;
# - RUN, and --chmod beside --link (which turns --link off): with either, BuildKit must download and unpack the gigabytes
#   of the base. The scripts are executable in the context instead;
# - labels that differ from build to build, such as created and revision: an unchanged image must keep its digest, or its
#   pods would roll.
#
# The default base is built on CUDA 13: it needs NVIDIA driver 580 or newer on the node, so a pool asks GKE for the LATEST.
ARG BASE_IMAGE=docker.io/vllm/vllm-openai:v0.31.0@sha256:c1c9f6fd5c109ba7f0546a59f5b2f15fb87f64c77782e90a27b648b42a8e67c3

FROM ${BASE_IMAGE}

ARG BASE_IMAGE
LABEL org.opencontainers.image.title="vllm-fungibility GPU" \
      org.opencontainers.image.description="vLLM OpenAI-compatible server that serves on an NVIDIA GPU node and idles on a TPU node" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

COPY --link fungibility-entrypoint fungibility-health fungibility-drain /usr/local/bin/
# In a folder of its own: the entrypoint names it in PYTHONPATH, where another file could shadow a module of the server.
COPY --link fungibility_drain.py /usr/local/lib/fungibility/

# The image's accelerator: the entrypoint serves on it and idles on the other.
ENV ACCELERATOR=gpu

EXPOSE 8000
ENTRYPOINT ["/usr/local/bin/fungibility-entrypoint"]
