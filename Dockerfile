# red in an image, with a CPU build of torch:   docker build --tag red .
# With CUDA 13.0, for docker run --gpus all:    docker build --tag red --build-arg TORCH=cu130 .
# TORCH names a folder of https://download.pytorch.org/whl; EXTRAS are those of pyproject.toml.
FROM python:3.12-slim

ARG TORCH=cpu
ARG EXTRAS=baselines,excel,gguf,plot,quant,track

WORKDIR /source
COPY scripts/constraints.txt scripts/
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/$TORCH" "$(grep ^torch== scripts/constraints.txt)"
COPY LICENSE README.md pyproject.toml ./
COPY red_cli red_cli
COPY recipes recipes
RUN pip install --no-cache-dir --constraint scripts/constraints.txt ".[$EXTRAS]"

# Bases, data sets and caches go to /home/red/.cache: give it a volume to keep them.
RUN useradd --create-home red && mkdir /work && chown red /work
USER red
WORKDIR /work
ENTRYPOINT ["red"]
CMD ["--help"]
