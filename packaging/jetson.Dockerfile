# gmrt on a Jetson, in a container. From a checkout, on the board:
#   docker build -f packaging/jetson.Dockerfile -t gmrt .
#   docker run --rm --runtime nvidia -v /proc/device-tree:/proc/device-tree:ro -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro \
#       -v "$PWD":/data -w /data gmrt infer scene.tif describe
# JetPack 6 (Python 3.10, TensorRT 10.3) is the default. For JetPack 7 name a base with Python 3.12 and TensorRT 10, for
# example --build-arg BASE=nvcr.io/nvidia/tensorrt:<tag>-py3 of the release that your Jetson Linux supports.
# Not built by this project yet: no board was at hand.
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE}

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY runtime runtime
COPY georsmllm georsmllm
COPY calibration calibration
COPY export export
COPY benchmarks benchmarks
COPY models models
COPY gmrt gmrt

# System site packages: TensorRT's Python module belongs to the base image and is not on the index for aarch64.
RUN python3 -m venv --system-site-packages /opt/gmrt \
    && /opt/gmrt/bin/pip install --no-cache-dir -c constraints.txt '.[cpu]' \
    && rm -rf /src

RUN useradd --create-home gmrt
USER gmrt
WORKDIR /data
ENV PATH=/opt/gmrt/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["gmrt"]
CMD ["doctor"]
