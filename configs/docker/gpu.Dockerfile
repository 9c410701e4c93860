# An image for NVIDIA GPUs, with all that export needs. CUDA's libraries come as packages; the host
# needs a driver for CUDA 13 and the NVIDIA Container Toolkit.
#   docker build -f configs/docker/gpu.Dockerfile -t harmless-scorer:gpu .
#   docker run --rm --gpus all -v "$PWD:/data" harmless-scorer:gpu doctor
FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir -c /src/constraints.txt \
    '/src[gpu,export-gpu,parquet,remote,report]' \
    && rm -rf /src
# Files are written as this user, unless `docker run --user` names another.
RUN useradd --create-home --uid 1000 scorer
USER scorer
WORKDIR /data
ENTRYPOINT ["harmless"]
CMD ["doctor"]
