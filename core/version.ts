/** This program's version, as in package.json (a test holds them together: reading the file would be I/O at load). */
export const VERSION = '0.1.0';
