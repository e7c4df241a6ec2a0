import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/** A hot function of Fn's http format: reads a request, prints Hello and the headers, and reads the next one. */
public class Hello {
  public static void main(String[] arguments) throws IOException {
    InputStream requests = new BufferedInputStream(System.in);
    OutputStream responses = new BufferedOutputStream(System.out);
    for (String request = readLine(requests); request != null; request = readLine(requests)) {
      Map<String, String> headers = new TreeMap<>();
      for (String line = readLine(requests); line != null && !line.isEmpty(); line = readLine(requests)) {
        int colon = line.indexOf(':');
        headers.put(line.substring(0, colon).toLowerCase(Locale.ROOT), line.substring(colon + 1).trim());
      }
      // Exactly as much as Content-Length says: the next request follows on the same pipe.
      byte[] name = requests.readNBytes(Integer.parseInt(headers.getOrDefault("content-length", "0")));
      System.err.println(request); // stderr is the log

      StringBuilder body = new StringBuilder("Hello, ");
      body.append(name.length == 0 ? "world" : new String(name, StandardCharsets.UTF_8)).append("!\n");
      headers.forEach((key, value) -> body.append(key).append(": ").append(value).append('\n'));
      byte[] bytes = body.toString().getBytes(StandardCharsets.UTF_8);
      String head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ";
      responses.write((head + bytes.length + "\r\n\r\n").getBytes(StandardCharsets.ISO_8859_1));
      responses.write(bytes);
      responses.flush();
    }
  }

  /** A line without its end, or null at the end of the input. */
  private static String readLine(InputStream input) throws IOException {
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    for (int next = input.read(); next != '\n'; next = input.read()) {
      if (next < 0) return null;
      if (next != '\r') line.write(next);
    }
    return line.toString(StandardCharsets.UTF_8);
  }
}
