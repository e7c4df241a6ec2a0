import lodash from 'lodash';

export const run = () => lodash.chunk([1, 2, 3], 2);
