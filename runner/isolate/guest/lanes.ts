/** How many may be under way at once. */
export interface Room {
  readonly perLane: number;
  readonly inAll: number;
  readonly bytes: number;
}

interface Lane {
  readonly key: string;
  underWay: number;
  readonly line: Set<Place>;
}

/** One thing asked for. States: in line → under way → left; it may leave from either. */
export interface Place {
  readonly lane: Lane;
  readonly bytes: number;
  /** Called once, when it may begin. */
  readonly begin: (place: Place) => void;
}

/**
 * Lines of things asked for, of which only so many are under way at once. Within a lane they begin in the order in which
 * they came; lanes take turns. The first of a lane never waits for another lane's end: what holds something that others
 * wait for, as a call its connection, can go on and give it back.
 */
export class Lanes {
  #room: Room;
  readonly #lanes = new Map<string, Lane>();
  /** Those with a line; whose turn is next comes first. */
  readonly #waiting = new Set<Lane>();
  #underWay = 0;
  #bytes = 0;

  constructor(room: Room) {
    this.#room = room;
  }

  /** For what comes from now on. */
  setRoom(room: Room): void {
    this.#room = room;
  }

  /** The next place in the lane's line; it may begin before this returns. */
  enter(key: string, bytes: number, begin: (place: Place) => void): Place {
    let lane = this.#lanes.get(key);
    if (lane === undefined) this.#lanes.set(key, (lane = { key, underWay: 0, line: new Set() }));
    const place: Place = { lane, bytes, begin };
    lane.line.add(place);
    this.#beginNext(lane);
    if (lane.line.size > 0) this.#waiting.add(lane);
    return place;
  }

  /** Leaves, with others beginning in its stead; whether it had begun. Once for each place. */
  leave(place: Place): boolean {
    const { lane } = place;
    const hadBegun = !lane.line.delete(place);
    if (hadBegun) {
      lane.underWay--;
      this.#underWay--;
      this.#bytes -= place.bytes;
      if (lane.underWay === 0) this.#beginNext(lane);
      this.#takeTurns();
    }
    if (lane.line.size === 0) {
      this.#waiting.delete(lane);
      if (lane.underWay === 0) this.#lanes.delete(lane.key);
    }
    return hadBegun;
  }

  #takeTurns(): void {
    for (const lane of this.#waiting) {
      if (this.#underWay >= this.#room.inAll) return;
      if (!this.#beginNext(lane)) continue;
      // To the end, where this loop meets it again while there is room.
      this.#waiting.delete(lane);
      if (lane.line.size > 0) this.#waiting.add(lane);
    }
  }

  #beginNext(lane: Lane): boolean {
    const { perLane, inAll, bytes } = this.#room;
    if (lane.underWay > 0 && (lane.underWay >= perLane || this.#underWay >= inAll)) return false;
    for (const place of lane.line) {
      if (this.#bytes > 0 && this.#bytes + place.bytes > bytes) return false;
      lane.line.delete(place);
      lane.underWay++;
      this.#underWay++;
      this.#bytes += place.bytes;
      place.begin(place);
      return true;
    }
    return false;
  }
}
