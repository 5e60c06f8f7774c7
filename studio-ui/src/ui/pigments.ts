/** Colours that mark areas, named like tubes of paint; the style sheet has the same ones as .pigment-0 and so on. */
export const PIGMENTS: readonly (readonly [number, number, number])[] = [
  [224, 165, 38], // ochre
  [46, 125, 209], // cobalt
  [201, 67, 43], // vermilion
  [24, 150, 112], // viridian
  [142, 84, 196], // manganese violet
  [214, 92, 150], // madder
];
