import lodash from 'lodash';

export const run = () => {
  const ranAt = Number(Temporal.Now.instant().epochNanoseconds / 1000n);
  return { ranAt, pieces: lodash.chunk([1, 2, 3], 2) };
};
