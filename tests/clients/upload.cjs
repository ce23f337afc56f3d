// Uploads a file with tus-js-client, as a program of a user's would: node upload.cjs '{…}'. Its last line is JSON.
const config = JSON.parse(process.argv[2]);
const fs = require("node:fs");
const { PassThrough } = require("node:stream");
const tus = require(`${config.modules}/tus-js-client`);

const options = {
  endpoint: config.endpoint,
  headers: { Authorization: `Bearer ${config.token}` },
  metadata: { filename: "from node.jpg", filetype: "image/jpeg" },
  urlStorage: new tus.FileUrlStorage(config.storage),
  retryDelays: [0, 100, 300, 1000, 1000, 1000, 3000, 3000, 3000],
  ...config.options,
  onProgress(sent) {
    if (config.dieAt && sent >= config.dieAt) process.kill(process.pid, "SIGKILL");
  },
  onChunkComplete(size, accepted) {
    console.log(JSON.stringify({ accepted }));
    if (config.endAt && accepted >= config.endAt) {
      upload.abort(true).then(() => console.log(JSON.stringify({ ended: upload.url })));
    }
  },
  onSuccess(payload) {
    const place = payload && payload.lastResponse ? payload.lastResponse.getHeader("Content-Location") : null;
    console.log(JSON.stringify({ place, url: upload.url }));
  },
  onError(error) {
    console.error(String(error));
    process.exit(1);
  },
};
// What has a length is never deferred: a stream of unknown length is what the option is for.
const file = fs.createReadStream(config.file);
const source = options.uploadLengthDeferred ? file.pipe(new PassThrough()) : file;
const upload = new tus.Upload(source, options);
upload.findPreviousUploads().then((earlier) => {
  if (earlier.length) upload.resumeFromPreviousUpload(earlier[0]);
  console.log(JSON.stringify({ resumes: earlier.length }));
  upload.start();
});
