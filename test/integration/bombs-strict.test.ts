import { describeBombs } from './bombs-suite.ts';

describeBombs('strict');
