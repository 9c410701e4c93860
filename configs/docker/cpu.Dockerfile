# A CPU image that scores with an artifact, and makes pages of scores. No torch is in it.
#   docker build -f configs/docker/cpu.Dockerfile -t harmless-scorer .
#   docker run --rm -v "$PWD:/data" harmless-scorer score rows.jsonl -o scores.jsonl --model artifact
FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir -c /src/constraints.txt '/src[cpu,parquet,remote,report]' \
    && rm -rf /src
# Files are written as this user, unless `docker run --user` names another.
RUN useradd --create-home --uid 1000 scorer
USER scorer
WORKDIR /data
ENTRYPOINT ["harmless"]
CMD ["demo"]
