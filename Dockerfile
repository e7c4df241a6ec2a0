# One image for every role: `docker run funcatron frontend|tron|runner`.
FROM node:26-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY . .
RUN node tools/build.mjs \
 && npm prune --omit=dev --ignore-scripts \
 # The image's own Node is the right one: the copies npm brings for other machines stay behind.
 && rm -rf node_modules/node-linux-* node_modules/node-darwin-* node_modules/node-bin-* node_modules/node-win-*

FROM node:26-bookworm-slim
LABEL org.opencontainers.image.title="funcatron" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production \
    FUNCATRON_DATA=/data \
    FUNCATRON_HOST=0.0.0.0 \
    FUNCATRON_ADMIN_PORT=9090
WORKDIR /app
COPY --from=build --chown=root:root /app/package.json ./
COPY --from=build --chown=root:root /app/node_modules ./node_modules
COPY --from=build --chown=root:root /app/dist ./dist
COPY --from=build --chown=root:root /app/bin ./bin
COPY --from=build --chown=root:root /app/sdk ./sdk
RUN mkdir -m 700 /data && chown node:node /data
VOLUME /data
USER node
EXPOSE 8080 8081
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9090/readyz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/bin/funcatron"]
CMD ["--help"]
