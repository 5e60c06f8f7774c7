/** Controls that several panels share. */

import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import type { Setting, SettingValue } from "../api/types";
import { choiceTitle, settingHelp, settingTitle, t } from "../i18n";
import { Icon, type IconName } from "./Icon";

interface SliderProps {
  label: string;
  value: number;
  min: number;
  max: number;
  step: number;
  text: string;
  help?: string;
  onInput: (value: number) => void;
  onCommit?: () => void;
  quiet?: boolean;
}

/** A labelled slider: `onInput` while it moves, `onCommit` when it rests. */
export function Slider({ label, value, min, max, step, text, help, onInput, onCommit, quiet }: SliderProps) {
  const id = useId();
  const filled = max > min ? (value - min) / (max - min) : 0;
  return (
    <div class={quiet ? "field field-quiet" : "field"}>
      <div class="field-head">
        <label for={id}>{label}</label>
        <output for={id}>{text}</output>
      </div>
      <input
        id={id}
        type="range"
        min={min}
        max={max}
        step={step}
        value={value}
        aria-valuetext={text}
        aria-describedby={help ? `${id}-help` : undefined}
        style={{ "--filled": `${filled * 100}%` }}
        onInput={(event) => onInput(Number(event.currentTarget.value))}
        onChange={onCommit}
      />
      {help && (
        <p class="help" id={`${id}-help`}>
          {help}
        </p>
      )}
    </div>
  );
}

interface ChoiceProps<T extends string> {
  label: string;
  hideLabel?: boolean;
  value: T;
  choices: readonly { value: T; text: string; icon?: IconName }[];
  help?: string;
  onChange: (value: T) => void;
}

/** A few choices side by side; radio buttons underneath, so arrow keys work. */
export function Segmented<T extends string>({ label, hideLabel, value, choices, help, onChange }: ChoiceProps<T>) {
  const id = useId();
  return (
    <fieldset class="field segmented" aria-describedby={help ? `${id}-help` : undefined}>
      <legend class={hideLabel ? "hidden" : undefined}>{label}</legend>
      <div class="segments">
        {choices.map((choice) => (
          <label key={choice.value} title={choice.icon ? choice.text : undefined}>
            <input
              type="radio"
              name={id}
              value={choice.value}
              checked={choice.value === value}
              onChange={() => onChange(choice.value)}
            />
            <span>
              {choice.icon && <Icon name={choice.icon} />}
              <span class={choice.icon ? "icon-text" : undefined}>{choice.text}</span>
            </span>
          </label>
        ))}
      </div>
      {help && (
        <p class="help" id={`${id}-help`}>
          {help}
        </p>
      )}
    </fieldset>
  );
}

interface ButtonProps {
  icon: IconName;
  label: string;
  onClick?: (event: MouseEvent) => void;
  disabled?: boolean;
  pressed?: boolean;
  class?: string;
  keys?: string;
  popovertarget?: string;
}

/** A button that is only an icon: its name is its tooltip and what a screen reader says. */
export function IconButton({ icon, label, onClick, disabled, pressed, class: kind, keys, popovertarget }: ButtonProps) {
  return (
    <button
      type="button"
      class={`icon-button ${kind ?? ""}`}
      aria-label={label}
      title={keys ? `${label} (${keys})` : label}
      aria-pressed={pressed}
      aria-keyshortcuts={keys}
      disabled={disabled}
      popovertarget={popovertarget}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}

interface SettingProps {
  setting: Setting;
  value: SettingValue | undefined;
  help?: boolean;
  onInput: (value: SettingValue) => void;
  onCommit: () => void;
}

const WIDE = 40; // from this ratio of the ends a slider is logarithmic

/** A control made from a setting's metadata: range, choices, unit, help. */
export function SettingField({ setting, value, help, onInput, onCommit }: SettingProps) {
  const id = useId();
  const now = value === undefined ? setting.default : value;
  const label = settingTitle(setting.name);
  const words = help ? settingHelp(setting) : undefined;
  const choose = (next: SettingValue) => {
    onInput(next);
    onCommit();
  };
  if (setting.type === "boolean") {
    return (
      <div class="field">
        <label class="switch">
          <input
            type="checkbox"
            role="switch"
            checked={Boolean(now)}
            aria-describedby={words ? `${id}-help` : undefined}
            onChange={(event) => choose(event.currentTarget.checked)}
          />
          <span>{label}</span>
        </label>
        {words && <Help id={id}>{words}</Help>}
      </div>
    );
  }
  if (setting.choices.length > 0) {
    const choices = setting.choices.map((choice) => ({ value: choice, text: choiceTitle(setting.name, choice) }));
    if (choices.length <= 3) {
      return <Segmented label={label} value={String(now)} choices={choices} help={words} onChange={choose} />;
    }
    return (
      <div class="field field-line">
        <label for={id}>{label}</label>
        <select id={id} value={String(now)} aria-describedby={words ? `${id}-help` : undefined} onChange={(event) => choose(event.currentTarget.value)}>
          {choices.map((choice) => (
            <option key={choice.value} value={choice.value}>
              {choice.text}
            </option>
          ))}
        </select>
        {words && <Help id={id}>{words}</Help>}
      </div>
    );
  }
  const { minimum, maximum } = setting;
  const numeric = setting.type === "number" || setting.type === "integer";
  const exact = setting.type === "integer" ? 1000 : 1e5; // wider ranges are typed, not dragged
  const short = numeric && minimum !== null && maximum !== null && !setting.nullable && maximum - minimum <= exact;
  if (short && typeof now === "number") {
    const logarithmic = minimum > 0 && maximum / minimum >= 16;
    const whole = setting.type === "integer";
    const to = (place: number) => {
      const raw = logarithmic ? minimum * (maximum / minimum) ** place : place;
      return whole ? Math.round(raw) : rounded(raw, maximum - minimum);
    };
    const place = logarithmic ? Math.log(Math.max(now, minimum) / minimum) / Math.log(maximum / minimum) : now;
    return (
      <Slider
        label={label}
        value={place}
        min={logarithmic ? 0 : minimum}
        max={logarithmic ? 1 : maximum}
        step={logarithmic ? 0.005 : whole ? 1 : (maximum - minimum) / (maximum - minimum > WIDE ? 400 : 100)}
        text={numberText(now, setting)}
        help={words}
        onInput={(at) => onInput(to(at))}
        onCommit={onCommit}
      />
    );
  }
  return (
    <div class="field field-line">
      <label for={id}>{label}</label>
      <span class="number">
        <input
          id={id}
          type={(numeric ? "number" : "text") as "number"}
          min={minimum ?? undefined}
          max={maximum ?? undefined}
          step={setting.type === "integer" ? 1 : "any"}
          value={now === null ? "" : String(now)}
          placeholder={setting.nullable ? t("adjust.auto") : undefined}
          aria-describedby={words ? `${id}-help` : undefined}
          onChange={(event) => {
            const text = event.currentTarget.value.trim();
            if (!event.currentTarget.checkValidity()) event.currentTarget.reportValidity();
            else if (text === "") choose(setting.nullable ? null : setting.default);
            else choose(numeric ? Number(text) : text);
          }}
        />
        {setting.unit && <span class="unit">{setting.unit}</span>}
      </span>
      {words && <Help id={id}>{words}</Help>}
    </div>
  );
}

function Help({ id, children }: { id: string; children: ComponentChildren }) {
  return (
    <p class="help" id={`${id}-help`}>
      {children}
    </p>
  );
}

function rounded(value: number, range: number): number {
  const digits = Math.max(0, 3 - Math.floor(Math.log10(range)));
  return Number(value.toFixed(digits));
}

function numberText(value: number, setting: Setting): string {
  if (setting.name === "style_scale") return `${value >= 1 ? value.toFixed(1) : value.toFixed(2)}×`;
  const text = setting.type === "integer" ? String(value) : Number(value.toPrecision(3)).toString();
  return setting.unit ? `${text} ${setting.unit}` : text;
}
