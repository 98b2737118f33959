import java.io.FileInputStream;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.common.config.types.Password;
import org.apache.kafka.common.security.JaasContext;
import org.springframework.cloud.bindings.Bindings;
import org.springframework.cloud.bindings.boot.BindingsPropertiesProcessor;
import org.springframework.core.env.StandardEnvironment;
import org.springframework.core.io.support.SpringFactoriesLoader;

/** What Java applications do with a Secret. Prints what came of it, one fact a line. */
public final class Clients {
    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "jdbc" -> jdbc(read("JDBC_URL"), read("JDBC_USER"), read("JDBC_PASSWORD"), arguments[1]);
            case "spring" -> spring(Path.of(arguments[1])).forEach((name, value) -> System.out.println(name + "=" + value));
            case "spring-jdbc" -> {
                Map<String, Object> properties = spring(Path.of(arguments[1]));
                jdbc(
                    properties.get("spring.datasource.url"),
                    properties.get("spring.datasource.username"),
                    properties.get("spring.datasource.password"),
                    arguments[2]);
            }
            case "kafka" -> kafka(arguments[1]);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static String read(String variable) {
        return System.getenv(variable);
    }

    private static void jdbc(Object url, Object user, Object password, String query) throws Exception {
        try (Connection connection = DriverManager.getConnection((String) url, (String) user, (String) password);
            ResultSet rows = connection.createStatement().executeQuery(query)) {
            rows.next();
            System.out.println(rows.getString(1));
        }
    }

    /** Spring Cloud Bindings' own processors, as Spring Boot loads and runs them. */
    private static Map<String, Object> spring(Path root) {
        Bindings bindings = new Bindings(root.toString());
        Map<String, Object> properties = new TreeMap<>();
        ClassLoader loader = Clients.class.getClassLoader();
        for (BindingsPropertiesProcessor one : SpringFactoriesLoader.loadFactories(BindingsPropertiesProcessor.class, loader)) {
            one.process(new StandardEnvironment(), bindings, properties);
        }
        return properties;
    }

    /** Reads the file as Kafka's tools do, builds a client of it (which loads the truststore), and shows whom it logs in as. */
    private static void kafka(String file) throws Exception {
        Properties properties = new Properties();
        try (FileInputStream stream = new FileInputStream(file)) {
            properties.load(stream);
        }
        Admin.create(properties).close();
        AdminClientConfig config = new AdminClientConfig(properties);
        System.out.println(String.join(",", config.getList("bootstrap.servers")));
        System.out.println(config.getString("security.protocol"));
        Map<String, Object> values = new HashMap<>(config.values());
        values.put("sasl.jaas.config", (Password) values.get("sasl.jaas.config"));
        JaasContext.loadClientContext(values).configurationEntries().forEach(entry -> {
            for (String option : List.of("username", "password")) {
                System.out.println(entry.getOptions().get(option));
            }
        });
    }
}
