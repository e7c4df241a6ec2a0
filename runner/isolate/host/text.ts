/**
 * Text that a guest handed out. A bundle that replaced a method of arrays or strings can have put an object in its place,
 * whose hooks (`valueOf`, `inspect`) would run in the middle of the host's own calls: it is not looked at.
 * @throws RangeError when it is anything but text
 */
export function textOf(value: unknown): string {
  if (typeof value !== 'string') throw new RangeError('the guest handed out something that is not text');
  return value;
}
